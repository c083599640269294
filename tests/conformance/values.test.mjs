// Mutable and immutable values put by one are got by the other.
import assert from 'node:assert/strict'
import test from 'node:test'
import { HyperDHT, OgPeer, cleanup, jsHost, jsNetwork, ogNetwork } from './lib.mjs'

for (const [name, network] of Object.entries({ 'JavaScript nodes': jsNetwork, 'og-nodes': ogNetwork })) {
  async function pair (t) {
    const after = cleanup(t)
    const { bootstrap } = await network(after)
    const og = await OgPeer.start(after, { bootstrap })
    const js = new HyperDHT({ bootstrap, host: jsHost })
    after(() => js.destroy({ force: true }))
    await js.fullyBootstrapped()
    await og.on('ready')
    return { og, js }
  }

  test(`stored on ${name}: immutable, put by og, got by JavaScript`, async (t) => {
    const { og, js } = await pair(t)
    const put = await og.value('put_immutable', { text: 'a value of og' })
    assert.equal(put.errno, 0)
    const { hash } = await js.immutablePut(Buffer.from('another'))
    assert.equal(hash.length, 32)
    const { default: sodium } = await import('sodium-universal')
    const target = Buffer.alloc(32)
    sodium.crypto_generichash(target, Buffer.from('a value of og'))
    assert.equal((await js.immutableGet(target)).value.toString(), 'a value of og')
  })

  test(`stored on ${name}: immutable, put by JavaScript, got by og`, async (t) => {
    const { og, js } = await pair(t)
    const { hash } = await js.immutablePut(Buffer.from('a value of JavaScript'))
    const got = await og.value('get_immutable', { key: hash.toString('hex') })
    assert.equal(got.errno, 0)
    assert.equal(Buffer.from(got.hex, 'hex').toString(), 'a value of JavaScript')
    const none = await og.value('get_immutable', { key: '11'.repeat(32) })
    assert.equal(none.errno, 2)
  })

  test(`stored on ${name}: mutable, both ways, the higher seq wins`, async (t) => {
    const { og, js } = await pair(t)
    assert.equal((await og.value('put_mutable', { seq: 1, text: 'one' })).errno, 0)
    assert.equal((await og.value('put_mutable', { seq: 2, text: 'two' })).errno, 0)
    const got = await js.mutableGet(og.key)
    assert.equal(got.seq, 2)
    assert.equal(got.value.toString(), 'two')

    const keyPair = HyperDHT.keyPair()
    await js.mutablePut(keyPair, Buffer.from('from JavaScript'), { seq: 5 })
    const back = await og.value('get_mutable', { key: keyPair.publicKey.toString('hex'), seq: 0 })
    assert.equal(back.errno, 0)
    assert.equal(back.seq, 5)
    assert.equal(Buffer.from(back.hex, 'hex').toString(), 'from JavaScript')
    const newer = await og.value('get_mutable', { key: keyPair.publicKey.toString('hex'), seq: 6 })
    assert.notEqual(newer.errno, 0)
  })
}
