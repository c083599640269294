// silent-peer.mjs BOOTSTRAP CLUSTER: an old node that takes requests and never answers them.
// Prints its public key, and "asked" when a request has come.
import { createHash } from 'node:crypto'
import Hyperswarm from 'hyperswarm'

const [bootstrap, cluster] = process.argv.slice(2)
const swarm = new Hyperswarm({ bootstrap: [bootstrap] })
swarm.on('connection', (conn) => {
  conn.on('error', () => {})
  conn.on('data', (d) => { if (d.toString().includes('inference_request')) process.stdout.write('asked\n') })
})
swarm.join(createHash('sha256').update(cluster).digest(), { server: true, client: true })
process.stdout.write(swarm.keyPair.publicKey.toString('hex') + '\n')
process.stdin.on('end', () => process.exit(0)).resume()
