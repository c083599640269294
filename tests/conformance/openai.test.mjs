// The `openai` npm package against NodeB, answered by NodeA, with and without streaming.
import assert from 'node:assert/strict'
import test from 'node:test'
import OpenAI from 'openai'
import { cleanup, ogNetwork } from './lib.mjs'
import { Node, demo } from './product.mjs'

const cluster = 'gatewayai-poc'

async function pair (after) {
  const { bootstrap } = await ogNetwork(after, 3)
  const a = await Node.start(after, { name: 'NodeA', bootstrap, cluster, model: 'demo' })
  const b = await Node.start(after, { name: 'NodeB', bootstrap, cluster })
  await b.sees(a.key)
  const client = new OpenAI({ baseURL: `${b.url}/v1`, apiKey: 'unused', maxRetries: 0 })
  const models = await client.models.list()
  assert.ok(models.data.some((m) => m.id === 'demo'))
  return { a, b, client }
}

test('chat completion', async (t) => {
  const { client } = await pair(cleanup(t))
  const { data: r, response } = await client.chat.completions.create({
    model: 'demo', messages: [{ role: 'user', content: 'What is 2+2?' }], temperature: 0
  }).withResponse()
  assert.equal(r.choices[0].message.content, '4')
  assert.equal(r.choices[0].message.role, 'assistant')
  assert.equal(r.choices[0].finish_reason, 'stop')
  assert.equal(r.object, 'chat.completion')
  assert.ok(r.usage.prompt_tokens > 0 && r.usage.completion_tokens > 0)
  assert.equal(r.usage.total_tokens, r.usage.prompt_tokens + r.usage.completion_tokens)
  assert.equal(response.headers.get('x-og-node'), 'NodeA')
  assert.ok(response.headers.get('x-request-id'))
})

test('chat completion, streamed', async (t) => {
  const { client } = await pair(cleanup(t))
  const stream = await client.chat.completions.create({
    model: 'demo', messages: [{ role: 'user', content: 'What is 31+11?' }], temperature: 0, stream: true, stream_options: { include_usage: true }
  })
  let text = ''
  let finish = null
  let usage = null
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? ''
    finish = chunk.choices[0]?.finish_reason ?? finish
    usage = chunk.usage ?? usage
  }
  assert.equal(text, '42')
  assert.equal(finish, 'stop')
  assert.ok(usage.completion_tokens > 0)
})

test('errors have the shapes the package knows', async (t) => {
  const { client } = await pair(cleanup(t))
  const ask = (o) => client.chat.completions.create({ model: 'demo', messages: [{ role: 'user', content: 'hi' }], ...o })
  await assert.rejects(ask({ model: 'no-such-model' }), OpenAI.NotFoundError)
  await assert.rejects(ask({ temperature: 9 }), OpenAI.BadRequestError)
  await assert.rejects(ask({ messages: [] }), OpenAI.BadRequestError)
})

test('completions, streamed and not', async (t) => {
  const { client } = await pair(cleanup(t))
  const prompt = '<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n'
  const r = await client.completions.create({ model: 'demo', prompt, temperature: 0, max_tokens: 8 })
  assert.equal(r.choices[0].text, '4')
  let text = ''
  for await (const c of await client.completions.create({ model: 'demo', prompt, temperature: 0, max_tokens: 8, stream: true })) text += c.choices[0]?.text ?? ''
  assert.equal(text, '4')
})

test('log probabilities, from the node that has the model', async (t) => {
  const { a, client } = await pair(cleanup(t))
  const direct = new OpenAI({ baseURL: `${a.url}/v1`, apiKey: 'unused', maxRetries: 0 })
  const ask = { model: 'demo', messages: [{ role: 'user', content: 'What is 31+11?' }], temperature: 0, logprobs: true, top_logprobs: 2 }
  const told = (content) => {
    for (const e of content) {
      assert.ok(e.logprob <= 0 && e.top_logprobs.length === 2)
      assert.equal(e.top_logprobs[0].token, e.token) // greedy: the likeliest is the one taken
      assert.equal(e.top_logprobs[0].logprob, e.logprob)
      assert.deepEqual(e.bytes, [...Buffer.from(e.token)])
    }
    return content.map((e) => e.token).join('')
  }
  const r = await direct.chat.completions.create(ask)
  assert.equal(told(r.choices[0].logprobs.content), r.choices[0].message.content)
  let text = ''
  let tokens = ''
  for await (const c of await direct.chat.completions.create({ ...ask, stream: true })) {
    text += c.choices[0]?.delta?.content ?? ''
    tokens += told(c.choices[0]?.logprobs?.content ?? [])
  }
  assert.equal(text, '42')
  assert.equal(tokens, text)
  const plain = await direct.completions.create({ model: 'demo', prompt: '1, 2, 3,', temperature: 0, max_tokens: 4, logprobs: 3 })
  const l = plain.choices[0].logprobs
  assert.equal(l.tokens.length, l.token_logprobs.length)
  assert.ok(Object.keys(l.top_logprobs[0]).length === 3)
  await assert.rejects(client.chat.completions.create(ask), OpenAI.BadRequestError)
})

test('several models on one node, each asked by its name', async (t) => {
  const after = cleanup(t)
  const { bootstrap } = await ogNetwork(after, 3)
  const extra = `[model twin]\npath = ${demo}\nmax_batch = 2\n[model parrot]\nbackend = echo\nalias = bird`
  const a = await Node.start(after, { name: 'NodeA', bootstrap, cluster, model: 'demo', extra })
  const b = await Node.start(after, { name: 'NodeB', bootstrap, cluster })
  await b.sees(a.key)
  for (const node of [a, b]) {
    const client = new OpenAI({ baseURL: `${node.url}/v1`, apiKey: 'unused', maxRetries: 0 })
    const ask = async (model) => (await client.chat.completions.create({ model, messages: [{ role: 'user', content: 'What is 2+2?' }], temperature: 0 })).choices[0].message.content
    const names = (await client.models.list()).data.map((m) => m.id)
    for (const name of ['demo', 'twin', 'parrot', 'bird']) assert.ok(names.includes(name), `${node.name}: ${name} in ${names}`)
    const asked = ['demo', 'twin', 'parrot', 'bird']
    const answers = await Promise.all([...asked, ...asked].map(ask))
    assert.deepEqual(answers.slice(0, 4), ['4', '4', '[echo] What is 2+2?', '[echo] What is 2+2?'])
    assert.deepEqual(answers.slice(4), answers.slice(0, 4))
    await assert.rejects(ask('third'), OpenAI.NotFoundError)
  }
  const metrics = await (await fetch(`${a.url}/metrics`)).text()
  for (const name of ['demo', 'twin', 'parrot']) {
    assert.ok(Number(metrics.match(new RegExp(`og_engine_requests_total\\{model="${name}"\\} (\\d+)`))?.[1]) >= 4, name)
  }
})
