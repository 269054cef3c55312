import { connect } from 'daybook/client';

const client = await connect({
  gateways: ['http://127.0.0.1:4270', 'http://127.0.0.1:4271'],
  channel: 'main',
  identity: {
    mspId: 'Org1MSP',
    certificateFile: '.daybook/identities/developer.cert.pem',
    privateKeyFile: '.daybook/identities/developer.key.pem',
  },
});

// Resolves once it is committed: durable, and replayed by the node that answers.
const { txId, position } = await client.submit('bank', 'transfer', ['alice', 'bob', '0.25']);
console.log(`transaction ${txId} stands at position ${position}`);

// Looks at committed state and writes nothing.
const balance = await client.evaluate('bank', 'balance', ['bob']);
console.log(`bob has ${balance.text()}`);

await client.close();
