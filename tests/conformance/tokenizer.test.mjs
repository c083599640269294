/*
 * tokenizer.test.mjs: small vocabularies of every kind, made here, must be read as Hugging Face's own
 * library reads them: the same tokens for the same texts, and the same text back.
 */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import tokenizers from '@anush008/tokenizers'
import { startText } from '../gpu/reference.mjs'
import { makeStrings } from '../gpu/strings.mjs'

const strings = makeStrings(600, 7)
const folder = mkdtempSync(path.join(tmpdir(), 'og-tokenizer-'))
after(() => rmSync(folder, { recursive: true, force: true }))

/* GPT-2's characters for bytes. */
const byteChars = (() => {
  const out = []
  let next = 0x100
  for (let b = 0; b < 256; b++) {
    const plain = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae
    out.push(String.fromCodePoint(plain ? b : next++))
  }
  return out
})()

/* Plain byte-pair training: joins the most frequent pair, `count` times. */
function train(words, count) {
  const merges = []
  let rows = words.map((w) => [...w]).filter((w) => w.length > 1)
  for (let i = 0; i < count; i++) {
    const pairs = new Map()
    for (const row of rows) {
      for (let k = 0; k + 1 < row.length; k++) {
        const key = row[k] + '\u0000' + row[k + 1]
        pairs.set(key, (pairs.get(key) ?? 0) + 1)
      }
    }
    const best = [...pairs].reduce((a, b) => (b[1] > a[1] ? b : a), ['', 1])
    if (best[1] < 2) break
    const [left, right] = best[0].split('\u0000')
    merges.push([left, right])
    rows = rows.map((row) => {
      const out = []
      for (let k = 0; k < row.length; k++) {
        if (row[k] === left && row[k + 1] === right) out.push(left + right), k++
        else out.push(row[k])
      }
      return out
    })
  }
  return merges
}

const corpus = strings.slice(0, 300).join(' ').split(/(?= )/)
const bytesOf = (s) => [...Buffer.from(s)].map((b) => byteChars[b]).join('')
const byteMerges = train(corpus.map(bytesOf), 600)
const byteVocab = vocabulary([...byteChars, ...byteMerges.map((m) => m.join(''))])
const charMerges = train(corpus.map((s) => s.replaceAll(' ', '▁')), 600)
const chars = [...new Set(strings.slice(0, 120).join('▁').replaceAll(' ', '▁'))]
const byteNames = [...Array(256).keys()].map((b) => `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`)
const charVocab = vocabulary(['<unk>', '<s>', '</s>', ...byteNames, ...chars, ...charMerges.map((m) => m.join(''))])
const charVocabWithoutBytes = vocabulary(['<unk>', '<s>', '</s>', ...chars, ...charMerges.map((m) => m.join(''))])

function vocabulary(tokens) {
  return Object.fromEntries([...new Set(tokens)].map((t, i) => [t, i]))
}

const onlyKnown = (vocab) => (merges) => merges.filter(([a, b]) => a in vocab && b in vocab && a + b in vocab)

function bpe(vocab, merges, more = {}) {
  return { type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null,
    fuse_unk: false, byte_fallback: false, ignore_merges: false, vocab, merges: onlyKnown(vocab)(merges), ...more }
}

function added(vocab, contents) {
  let id = Object.keys(vocab).length
  return contents.map(({ content, ...flags }) => ({ id: content in vocab ? vocab[content] : id++, content, single_word: false,
    lstrip: false, rstrip: false, normalized: false, special: true, ...flags }))
}

const template = { type: 'TemplateProcessing', single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } },
  { SpecialToken: { id: '</s>', type_id: 0 } }], pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] }, '</s>': { id: '</s>', ids: [2], tokens: ['</s>'] } } }
const byteLevel = (more = {}) => ({ type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false, ...more })
const split = (regex, behavior = 'Isolated', invert = false) => ({ type: 'Split', pattern: { Regex: regex }, behavior, invert })
const sequence = (...parts) => ({ type: 'Sequence', pretokenizers: parts })
const llama3 = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
const tekken = '[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'
/* Ours never makes a control token of pieces, theirs does where merges lead there: so none of those here. */
const byteTokens = added(byteVocab, [{ content: '<|im_start|>' }, { content: '<|im_end|>' }, { content: '<|', special: false }, { content: '<think>', special: false },
  { content: '    ', special: false }, { content: '  ', special: false }])
const charTokens = added(charVocab, [{ content: '<unk>' }, { content: '<s>' }, { content: '</s>' }, { content: '<|user|>', rstrip: true },
  { content: '<|end|>', lstrip: true, rstrip: true }])
const replaceSpace = { type: 'Replace', pattern: { String: ' ' }, content: '▁' }
const spmNormalizer = { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, replaceSpace] }
const spmDecoder = (strip) => ({ type: 'Sequence', decoders: [{ type: 'Replace', pattern: { String: '▁' }, content: ' ' }, { type: 'ByteFallback' },
  { type: 'Fuse' }, ...(strip ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : [])] })
const spm = (more) => bpe(charVocab, charMerges, { unk_token: '<unk>', fuse_unk: true, byte_fallback: true, ...more })

function onBytes(pre, more = {}) {
  return { version: '1.0', truncation: null, padding: null, added_tokens: byteTokens, normalizer: null, pre_tokenizer: pre, post_processor: byteLevel(),
    decoder: byteLevel(), model: bpe(byteVocab, byteMerges), ...more }
}

function onChars(more = {}) {
  return { version: '1.0', truncation: null, padding: null, added_tokens: charTokens, normalizer: null, pre_tokenizer: null, post_processor: template,
    decoder: spmDecoder(true), model: spm(), ...more }
}

const metaspace = (scheme, splits) => ({ type: 'Metaspace', replacement: '▁', prepend_scheme: scheme, split: splits })
const kinds = {
  'llama 3': onBytes(sequence(split(llama3), byteLevel()), { model: bpe(byteVocab, byteMerges, { ignore_merges: true }) }),
  'gpt-2': onBytes(byteLevel({ use_regex: true })),
  'gpt-2 with a space in front': onBytes(byteLevel({ use_regex: true, add_prefix_space: true })),
  'smollm': onBytes(sequence({ type: 'Digits', individual_digits: true }, byteLevel({ use_regex: true }))),
  'digits in groups': onBytes(sequence({ type: 'Digits', individual_digits: false }, byteLevel({ use_regex: true }))),
  'qwen 2': onBytes(sequence(split(llama3.replace('{1,3}', '')), byteLevel()), { normalizer: { type: 'NFC' } }),
  'tekken': onBytes(sequence(split(tekken), byteLevel()), { model: bpe(byteVocab, byteMerges, { ignore_merges: true }) }),
  'punctuation': onBytes(sequence({ type: 'Punctuation', behavior: 'Contiguous' }, byteLevel({ use_regex: true }))),
  'split, removed': onBytes(sequence(split('\\s+', 'Removed'), byteLevel())),
  'split, merged with previous': onBytes(sequence(split('[aeiou]', 'MergedWithPrevious'), byteLevel())),
  'split, merged with next': onBytes(sequence(split('[aeiou ]', 'MergedWithNext'), byteLevel())),
  'split, contiguous': onBytes(sequence(split('[a-z]', 'Contiguous'), byteLevel())),
  'split, inverted': onBytes(sequence(split('\\p{L}+', 'Removed', true), byteLevel())),
  'split at a string': onBytes(sequence({ type: 'Split', pattern: { String: 'e' }, behavior: 'MergedWithPrevious', invert: false }, byteLevel())),
  'split at nothing and lines': onBytes(sequence(split('(?=[A-Z])|^|$'), byteLevel())),
  'nfd': onBytes(byteLevel({ use_regex: true }), { normalizer: { type: 'NFD' } }),
  'nfkc and lower case': onBytes(byteLevel({ use_regex: true }), { normalizer: { type: 'Sequence', normalizers: [{ type: 'NFKC' }, { type: 'Lowercase' }] } }),
  'nfkd': onBytes(byteLevel({ use_regex: true }), { normalizer: { type: 'NFKD' } }),
  'llama 2': onChars({ normalizer: spmNormalizer }),
  'gemma': onChars({ normalizer: replaceSpace, pre_tokenizer: { type: 'Split', pattern: { String: ' ' }, behavior: 'MergedWithPrevious', invert: false },
    decoder: spmDecoder(false) }),
  'metaspace, first': onChars({ pre_tokenizer: metaspace('first', false) }),
  'metaspace, always, split': onChars({ pre_tokenizer: metaspace('always', true) }),
  'metaspace, never, split': onChars({ pre_tokenizer: metaspace('never', true), decoder: spmDecoder(false) }),
  'unknown characters fused': onChars({ normalizer: spmNormalizer, added_tokens: [], model: bpe(charVocabWithoutBytes, charMerges, { unk_token: '<unk>', fuse_unk: true }) }),
  'unknown characters one by one': onChars({ normalizer: spmNormalizer, added_tokens: [], model: bpe(charVocabWithoutBytes, charMerges, { unk_token: '<unk>' }) }),
  'unknown characters left out': onChars({ normalizer: spmNormalizer, added_tokens: [], model: bpe(charVocabWithoutBytes, charMerges) }),
  'added tokens of every kind': onBytes(byteLevel({ use_regex: true }), { normalizer: { type: 'Lowercase' }, added_tokens: added(byteVocab, [
    { content: 'the' , special: false, single_word: true }, { content: 'HTTP', special: false, normalized: true },
    { content: '<|user|>', lstrip: true }, { content: '<|end|>', rstrip: true, lstrip: true, special: false }, { content: '日本', special: false },
    { content: '日', special: false }, { content: 'ing', special: false, normalized: true, single_word: true }, { content: '...', special: false, rstrip: true }]) }),
}

/* A decoder other than these gives the tokens' own text: not compared. */
const decodes = (kind) => !kind.includes('unknown')

for (const [name, json] of Object.entries(kinds)) {
  test(`tokens: ${name}`, async () => {
    const text = JSON.stringify(json)
    writeFileSync(path.join(folder, 'tokenizer.json'), text)
    const theirs = tokenizers.Tokenizer.fromString(text)
    const ours = startText(folder)
    for (const s of strings) {
      const want = (await theirs.encode(s, null, { addSpecialTokens: true })).getIds()
      assert.deepEqual((await ours.ask({ encode: s, control: true, whole: true })).ids, want, JSON.stringify(s))
      if (!decodes(name)) continue
      const shown = await theirs.decode(want, true)
      assert.equal((await ours.ask({ decode: want })).text, shown, `${JSON.stringify(s)} from ${want}`)
    }
    ours.stop()
  })
}
