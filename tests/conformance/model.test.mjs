// Models as files: a folder as Hugging Face publishes it, and weights that cannot be used.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { cleanup, ogNetwork, root, tempDir } from './lib.mjs'
import { Node, demo } from './product.mjs'

const cluster = 'gatewayai-poc'
const form = (kind, out) => {
  execFileSync('python3', [path.join(root, 'tests/conformance/demo_forms.py'), kind, demo, out])
  return out
}
const chat = async (url, model) => {
  const r = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST', headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model, messages: [{ role: 'user', content: 'What is 31+11?' }], temperature: 0 })
  })
  return { status: r.status, body: await r.json() }
}

test('a Hugging Face folder answers over HTTP and for a member, as its GGUF file does', async (t) => {
  const after = cleanup(t)
  const { bootstrap } = await ogNetwork(after, 3)
  const folder = form('folder', path.join(tempDir(after), 'demo-hf'))
  const a = await Node.start(after, { name: 'NodeA', bootstrap, cluster, model: folder, extra: `[model gguf]\npath = ${demo}` })
  const b = await Node.start(after, { name: 'NodeB', bootstrap, cluster })
  await b.sees(a.key)
  const answers = []
  for (const url of [a.url, b.url]) {
    for (const model of ['demo-hf', 'gguf']) {
      const { status, body } = await chat(url, model)
      assert.equal(status, 200, JSON.stringify(body))
      assert.equal(body.model, model)
      answers.push([body.choices[0].message.content, body.usage.prompt_tokens, body.usage.completion_tokens])
    }
  }
  assert.equal(answers[0][0], '42')
  for (const other of answers) assert.deepEqual(other, answers[0])
  const { stdout } = await b.cli('prompt', 'What is 2+2?', '--model', 'demo-hf')
  assert.equal(stdout.trim(), '4')
})

test('weights that are refused when they arrive leave the node up and the model listed as failed', async (t) => {
  const after = cleanup(t)
  const { bootstrap } = await ogNetwork(after, 3)
  const broken = form('broken', path.join(tempDir(after), 'broken.gguf'))
  const a = await Node.start(after, { name: 'NodeA', bootstrap, cluster, model: 'demo', extra: `[model broken]\npath = ${broken}` })
  const b = await Node.start(after, { name: 'NodeB', bootstrap, cluster })
  await b.sees(a.key)
  assert.deepEqual(a.status.models, ['demo'])
  const load = Object.fromEntries(a.status.load.map((l) => [l.model, l]))
  assert.equal(load.demo.state, 'served')
  assert.equal(load.demo.bytes_read, load.demo.bytes_wanted)
  assert.ok(load.demo.bytes_per_s > 0 && load.demo.left_s === 0 && load.demo.error === null)
  assert.equal(load.broken.state, 'failed')
  assert.match(load.broken.error, /broken\.gguf: tensor rope_freqs\.weight holds what is no positive number/)
  assert.equal((await a.json('models')).find((m) => m.id === 'broken').state, 'failed')
  assert.deepEqual((await b.json('models')).map((m) => m.id), ['demo'])
  assert.equal((await chat(a.url, 'broken')).status, 404)
  assert.equal((await chat(b.url, 'demo')).status, 200)
  const metrics = await (await fetch(`${a.url}/metrics`)).text()
  assert.match(metrics, /^og_loader_failed\{model="broken"\} 1$/m)
  assert.match(metrics, /^og_loader_failed\{model="demo"\} 0$/m)
  assert.match(metrics, new RegExp(`^og_loader_read_bytes\\{model="demo"\\} ${load.demo.bytes_wanted}$`, 'm'))
})

test('a node whose only model is refused says why and stays up, not ready', async (t) => {
  const after = cleanup(t)
  const dir = tempDir(after)
  const broken = form('broken', path.join(dir, 'broken.gguf'))
  const n = new Node()
  n.root = dir
  writeFileSync(path.join(dir, 'node.conf'), [
    '[node]', 'name = alone', '[dht]', 'bootstrap = none', 'port = 0', '[port]', 'address = 127.0.0.1',
    '[http]', 'listen = 127.0.0.1:0', '[model]', `path = ${broken}`, ''].join('\n'))
  after(() => n.cli('stop'))
  const { code, stderr } = await n.cli('start')
  assert.notEqual(code, 0)
  assert.match(stderr, /model broken is not served: .*no positive number/)
  const status = await n.json('status')
  assert.equal(status.state, 'starting')
  assert.equal(status.ready, false)
  assert.match(status.waiting_for.join('\n'), /no positive number/)
  assert.equal((await fetch(`http://${status.http}/readyz`)).status, 503)
  assert.equal((await fetch(`http://${status.http}/healthz`)).status, 200)
  const answer = await chat(`http://${status.http}`, 'broken')
  assert.notEqual(answer.status, 200)
})
