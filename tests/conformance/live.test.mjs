// 30 og-nodes are a DHT that JavaScript peers use live, while nodes come and go: five minutes with
// OG_ALL=1, twenty seconds otherwise. No wrong answer is allowed; a late one is counted.
import assert from 'node:assert/strict'
import test from 'node:test'
import { HyperDHT, all, cleanup, jsSwarm, ogNetwork, randomBytes, until } from './lib.mjs'

test('JavaScript peers live on a DHT of 30 og-nodes with churn', { timeout: 600000 }, async (t) => {
  const after = cleanup(t)
  const { bootstrap } = await ogNetwork(after, 30, ['--churn-ms', '2000'])
  const end = Date.now() + (all ? 300000 : 20000)
  const dht = new HyperDHT({ bootstrap, host: '127.0.0.1' })
  after(() => dht.destroy({ force: true }))
  let rounds = 0
  let values = 0
  let missing = 0
  let strangers = 0
  while (Date.now() < end) {
    const topic = randomBytes(32)
    const stop = []
    const a = jsSwarm((f) => stop.push(f), bootstrap)
    const b = jsSwarm((f) => stop.push(f), bootstrap)
    const word = randomBytes(8).toString('hex') + '\n'
    // On every connection: when a relay dies with the answer to a handshake, JavaScript opens one that
    // its peer does not know of, and a second that replaces it.
    a.on('connection', (conn) => {
      if (conn.remotePublicKey.equals(b.keyPair.publicKey)) conn.write(word)
      else strangers++
    })
    let said = ''
    b.on('connection', (conn) => {
      if (conn.remotePublicKey.equals(a.keyPair.publicKey)) conn.on('data', (d) => { said += d })
      else strangers++
    })
    await a.join(topic, { server: true, client: false }).flushed()
    b.join(topic, { server: false, client: true })
    await until(30000, 'the word', () => said.includes(word))
    assert.equal(strangers, 0, 'a connection from somebody else')

    const value = randomBytes(100)
    const { hash } = await dht.immutablePut(value)
    const got = await dht.immutableGet(hash)
    if (got === null) missing++
    else assert.ok(got.value.equals(value), 'a wrong value')
    values++
    for (const f of stop) await f()
    rounds++
  }
  t.diagnostic(`${rounds} meetings, ${values} values, ${missing} not found`)
  assert.ok(rounds >= 2)
  assert.ok(missing <= values / 20)
})
