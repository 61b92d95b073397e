// A real OpenID Connect issuer on loopback: node server.mjs PORT. It accepts every user
// name without a password. It prints "listens" on standard output when it listens.
import Provider from 'oidc-provider';

const issuer = `http://127.0.0.1:${process.argv[2]}`;
const provider = new Provider(issuer, {
  clients: [{
    client_id: 'game', token_endpoint_auth_method: 'none', redirect_uris: [`${issuer}/game`],
    grant_types: ['authorization_code'], response_types: ['code'], application_type: 'native',
  }],
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  cookies: { keys: ['only for this test'] },
});
provider.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('listens'));
