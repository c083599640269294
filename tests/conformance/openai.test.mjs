// The `openai` npm package against NodeB, answered by NodeA, with and without streaming.
import assert from 'node:assert/strict'
import test from 'node:test'
import OpenAI from 'openai'
import { cleanup, ogNetwork } from './lib.mjs'
import { Node } from './product.mjs'

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
