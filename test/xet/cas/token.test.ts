import test from 'ava';
import {
  formatXetInfo,
  parseTokenAnswer,
  parseXetInfo,
  tokenFromHeaders,
  tokenHeaders,
} from '../../../src/xet/cas/protocol.ts';
import { CredentialToken, ExchangedToken, staticToken } from '../../../src/xet/cas/token.ts';
import { Git2dbError } from '../../../src/xet/errors.ts';
import { openClient, serve } from './http-rig.ts';

const NOW = 1_000_000_000_000;

/** A token endpoint whose tokens last for `seconds` by its own clock, and a client whose clock is ours. */
async function rig(
  t: Parameters<typeof serve>[0],
  options: { seconds?: number; skewMs?: number; casUrl?: string } = {},
) {
  let now = NOW;
  let casUrl = options.casUrl;
  let given = 0;
  const served = await serve(t, (_, response) => {
    const serverNow = now + (options.skewMs ?? 0);
    const exp = Math.floor(serverNow / 1000) + (options.seconds ?? 3600);
    response.sendDate = false;
    if (options.skewMs !== undefined) response.setHeader('date', new Date(serverNow).toUTCString());
    response.end(JSON.stringify({ accessToken: `t${++given}`, casUrl: casUrl ?? `${served.url}/cas/`, exp }));
  });
  const { http, clock } = openClient(t, {}, () => now);
  return {
    served,
    exchange: { http, clock, tokenUrl: (scope: string) => `${served.url}/token?scope=${scope}` },
    pass: (ms: number) => {
      now += ms;
    },
    move: (url: string) => {
      casUrl = url;
    },
  };
}

test('a token is renewed a minute before it expires, once for all who ask', async (t) => {
  const { served, exchange, pass } = await rig(t);
  const token = await ExchangedToken.open(exchange, 'read');
  t.is(token.casUrl, `${served.url}/cas`);
  t.is(token.authority, served.url);
  t.is(await token.get('read'), 't1');
  pass(3539_000);
  t.is(await token.get('read'), 't1');
  pass(2000);
  t.deepEqual(await Promise.all([token.get('read'), token.get('read'), token.get('read')]), [
    't2',
    't2',
    't2',
  ]);
  t.deepEqual(served.asked, ['GET /token?scope=read', 'GET /token?scope=read']);
});

test('a token to write with is good for reading; a token to read with is not for writing', async (t) => {
  const { exchange } = await rig(t);
  const token = await ExchangedToken.open(exchange, 'read');
  t.is(await token.get('write'), 't2');
  token.invalidate('t1');
  t.is(await token.get('read'), 't2');
  token.invalidate('t2');
  t.is(await token.get('read'), 't3');
  t.is(await token.get('write'), 't4');
});

test('clocks that differ do no harm where the server tells its time', async (t) => {
  for (const skewMs of [-7200_000, 7200_000]) {
    const { exchange, pass, served } = await rig(t, { skewMs });
    const token = await ExchangedToken.open(exchange, 'read');
    pass(3000_000);
    t.is(await token.get('read'), 't1');
    pass(600_000);
    t.is(await token.get('read'), 't2');
    t.is(served.asked.length, 2);
  }
});

test('a token that has expired when it comes is an error that names the clocks', async (t) => {
  const { exchange } = await rig(t, { seconds: -10 });
  const error = await t.throwsAsync(ExchangedToken.open(exchange, 'read'));
  t.is((error as unknown as Git2dbError).code, 'AUTH_FAILED');
  t.regex(error?.message ?? '', /clocks/);
  const short = await rig(t, { seconds: 40 });
  const token = await ExchangedToken.open(short.exchange, 'read');
  short.pass(19_000);
  t.is(await token.get('read'), 't1');
  short.pass(2000);
  t.is(await token.get('read'), 't2');
});

test('a CAS at another authority needs trust, and does not move afterwards', async (t) => {
  const { exchange, move, pass, served } = await rig(t, { casUrl: 'https://elsewhere.example/cas' });
  const error = await t.throwsAsync(ExchangedToken.open(exchange, 'read'));
  t.is((error as unknown as Git2dbError).code, 'TRUST_REQUIRED');
  t.regex(error?.message ?? '', /git2db xet trust https:\/\/elsewhere\.example/);
  const asked: [string, string][] = [];
  const mayUse = (cas: URL, from: URL) => {
    asked.push([cas.origin, from.origin]);
    return true;
  };
  const token = await ExchangedToken.open({ ...exchange, mayUse }, 'read');
  t.is(token.authority, 'https://elsewhere.example');
  t.deepEqual(asked, [['https://elsewhere.example', served.url]]);
  move('https://third.example');
  pass(3600_000);
  t.is(((await t.throwsAsync(token.get('read'))) as unknown as Git2dbError).code, 'REMOTE_INVALID');
});

test('a failure to renew is told to all who wait, and tried again afterwards; an abort ends the waiting', async (t) => {
  let isBroken = false;
  const served = await serve(t, (_, response) => {
    if (isBroken) response.writeHead(403).end('no more');
    else response.end(JSON.stringify({ accessToken: 'x', casUrl: served.url, exp: 4_000_000_000 }));
  });
  const { http } = openClient(t);
  const token = await ExchangedToken.open({ http, tokenUrl: () => served.url }, 'read');
  token.invalidate('x');
  isBroken = true;
  const failures = await Promise.allSettled([token.get('read'), token.get('read')]);
  t.deepEqual(
    failures.map((result) => (result as PromiseRejectedResult).reason.code),
    ['REMOTE_FORBIDDEN', 'REMOTE_FORBIDDEN'],
  );
  isBroken = false;
  t.is(((await t.throwsAsync(token.get('read', AbortSignal.abort()))) as Error).name, 'AbortError');
  t.is(await token.get('read'), 'x');
});

test('who we are goes to the token endpoint only', async (t) => {
  const { exchange, served } = await rig(t);
  const identity = staticToken(served.url, 'hf_me');
  await ExchangedToken.open({ ...exchange, identity }, 'write');
  t.is(served.headers[0]?.authorization, 'Bearer hf_me');
  t.throws(() => staticToken('https://x.org', 'two\r\nlines'), { message: /characters that no token has/ });
  await t.throwsAsync(
    ExchangedToken.open({ ...exchange, identity: staticToken('https://x.org', 'hf_me') }, 'read'),
    {
      message: /not sent to/,
    },
  );
});

for (const answer of [
  null,
  {},
  { accessToken: '', casUrl: 'https://x', exp: 1 },
  { accessToken: 'a b', casUrl: 'https://x', exp: 1 },
  { accessToken: 'a\r\nX: y', casUrl: 'https://x', exp: 1 },
  { accessToken: 'a'.repeat(70_000), casUrl: 'https://x', exp: 1 },
  { accessToken: 'a', casUrl: 'file:///x', exp: 1 },
  { accessToken: 'a', casUrl: 'https://u:p@x', exp: 1 },
  { accessToken: 'a', casUrl: 7, exp: 1 },
  { accessToken: 'a', casUrl: 'https://x', exp: '1' },
  { accessToken: 'a', casUrl: 'https://x', exp: 1.5 },
  { accessToken: 'a', casUrl: 'https://x', exp: -1 },
]) {
  test(`a token answer ${JSON.stringify(answer)?.slice(0, 60)} breaks the protocol`, (t) => {
    t.throws(() => parseTokenAnswer(answer), { code: 'REMOTE_INVALID' } as never);
  });
}

test('tokens travel as headers, too, and servers tell of themselves', (t) => {
  const answer = { accessToken: 'abc', casUrl: 'https://x/cas', exp: 1756489133 };
  t.deepEqual(tokenFromHeaders(tokenHeaders(answer)), answer);
  t.is(tokenFromHeaders({ 'content-type': 'x' }), undefined);
  t.throws(() => tokenFromHeaders({ 'X-Xet-Access-Token': 'a', 'X-Xet-Cas-Url': 'https://x' }));
  for (const casUrl of ['', 'nonsense', 'ftp://x', '//x', 'https://', 'https://u:p@x/']) {
    const headers = { ...tokenHeaders(answer), 'X-Xet-Cas-Url': casUrl };
    const error = t.throws(() => tokenFromHeaders(headers), { instanceOf: Git2dbError });
    t.regex(error?.message ?? '', /casUrl: expected an http:\/\/ or https:\/\/ URL/);
  }
  const info = { casUrl: 'https://x/cas', tokenUrl: 'https://x/r.git/info/xet/token' };
  t.deepEqual(parseXetInfo(JSON.parse(JSON.stringify(formatXetInfo(info)))), info);
  for (const other of [null, 'x', {}, { server: 'other', protocol: 1 }, { server: 'git2db', protocol: 2 }]) {
    t.is(parseXetInfo(other), undefined);
  }
  t.throws(() => parseXetInfo({ server: 'git2db', protocol: 1, casUrl: 'ftp://x', tokenUrl: 'https://x' }));
});

test('credentials are asked for when the server wants some, and told whether they were right', async (t) => {
  const told: string[] = [];
  let password = 'wrong';
  const callbacks = {
    fill: async (url: string) => {
      told.push(`fill ${url}`);
      return { username: 'me', password };
    },
    approve: (url: string) => void told.push(`approve ${url}`),
    reject: (url: string) => void told.push(`reject ${url}`),
  };
  const right = `Basic ${Buffer.from('me:right').toString('base64')}`;
  const { url } = await serve(t, (request, response) => {
    response.statusCode = request.headers.authorization === right ? 200 : 401;
    response.end();
  });
  const place = `${url}/repo.git`;
  const { http } = openClient(t);
  const token = new CredentialToken(place.replace('//', '//someone:secret@'), callbacks);
  const ask = async () => (await http.request({ method: 'GET', url: place, accept: [200], token })).discard();
  await t.throwsAsync(ask(), { message: /answered 401/ });
  t.deepEqual(told, [`fill ${place}`, `reject ${place}`]);
  password = 'right';
  told.length = 0;
  await Promise.all([ask(), ask(), ask()]);
  await ask();
  t.deepEqual(told, [`fill ${place}`, `approve ${place}`]);

  const nobody = new CredentialToken(place, { fill: async () => undefined });
  await t.throwsAsync(http.request({ method: 'GET', url: place, accept: [200], token: nobody }), {
    message: /log in/,
  });
  const bearer = new CredentialToken(place, callbacks, { scheme: 'Bearer', isEager: true });
  t.is(await bearer.get(), 'right');
  password = 'two\nlines';
  t.is(await new CredentialToken(place, callbacks, { scheme: 'Bearer', isEager: true }).get(), undefined);
});
