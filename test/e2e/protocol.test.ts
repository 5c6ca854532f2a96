/**
 * The real filter program as git sees it, and as a client sees it that does what git never would: any
 * packet sizes, cuts at any byte, closed pipes, unknown words.
 */

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Downloader } from '../../src/xet/download.ts';
import { parseHash } from '../../src/xet/hash/xet-hash.ts';
import { LocalStore } from '../../src/xet/store/local-store.ts';
import { contentOf, FilterClient, listOf, pathLine } from '../helpers/filter-client.ts';
import {
  assertClean,
  assertNothingIncoming,
  createXetSandbox,
  POINTER,
  randomBytes,
  storeFiles,
  type XetRepository,
  type XetSandbox,
} from '../helpers/xet-sandbox.ts';

const MIB = 1 << 20;
const PACKET = 65516;

async function setUp(t: ExecutionContext, config: Readonly<Record<string, string>> = {}) {
  const sandbox = createXetSandbox(t, { config });
  const repository = await sandbox.repository();
  return { sandbox, repository };
}

function start(
  t: ExecutionContext,
  { sandbox, repository }: { readonly sandbox: XetSandbox; readonly repository: XetRepository },
  env: Readonly<Record<string, string>> = {},
): Promise<FilterClient> {
  return FilterClient.start(t, sandbox.filter, { cwd: repository.dir, env: { ...sandbox.env, ...env } });
}

/** Everything went well, and nothing was said. */
async function endWell(t: ExecutionContext, client: FilterClient): Promise<void> {
  t.deepEqual(await client.end(), { code: 0, signal: null, stderr: '' });
}

// Packets

test.serial(
  'content around the size of a packet, in packets of any size, is converted both ways',
  async (t) => {
    const here = await setUp(t);
    const client = await start(t, here);
    t.deepEqual(client.granted, ['clean', 'smudge', 'delay']);
    const pointers = new Map<number, string>();
    for (const size of [0, 1, PACKET - 1, PACKET, PACKET + 1, 2 * PACKET - 1, 2 * PACKET, 2 * PACKET + 1]) {
      const content = randomBytes(1, size);
      for (const packetSize of [PACKET, PACKET - 1, 4096, 1000]) {
        const { status, content: pointer } = await client.clean('a', content, { packetSize });
        t.is(status, 'success');
        if (size === 0) {
          t.is(pointer.length, 0);
          continue;
        }
        t.regex(pointer.toString(), POINTER);
        t.is(pointers.get(size) ?? pointer.toString(), pointer.toString());
        pointers.set(size, pointer.toString());
        const back = await client.smudge('a', pointer, { packetSize: 50 });
        t.true(back.content.equals(content));
      }
    }
    await endWell(t, client);
    assertNothingIncoming(t, here.repository.store);
  },
);

test.serial(
  'a client that writes 300 MB before it reads is served in bounded memory, both ways',
  async (t) => {
    const here = await setUp(t, { 'xet.fsync': 'none' });
    const client = await start(t, here);
    const total = 300 * 10 ** 6;
    const block = 10 ** 7;
    function* blocks(): Generator<Buffer> {
      for (let at = 0; at < total; at += block) yield randomBytes(at, block);
    }
    const { status, content: pointer } = await client.clean('large.bin', blocks());
    t.is(status, 'success');
    t.true(peakMemory(client.pid) < 200 * MIB, `clean: ${peakMemory(client.pid)}`);
    await endWell(t, client);

    const reader = await start(t, here);
    const expected = blocks();
    let rest = Buffer.alloc(0);
    let received = 0;
    let same = true;
    const answer = await reader.smudge('large.bin', pointer, {
      onContent: (piece) => {
        received += piece.length;
        for (let left = piece; left.length > 0; ) {
          if (rest.length === 0) rest = expected.next().value!;
          const count = Math.min(rest.length, left.length);
          same &&= rest.subarray(0, count).equals(left.subarray(0, count));
          rest = rest.subarray(count);
          left = left.subarray(count);
        }
      },
    });
    t.like(answer, { status: 'success' });
    t.is(received, total);
    t.true(same);
    t.true(peakMemory(reader.pid) < 200 * MIB, `smudge: ${peakMemory(reader.pid)}`);
    await endWell(t, reader);
  },
);

test.serial('50 MiB that are no pointer pass through smudge in bounded memory', async (t) => {
  const here = await setUp(t);
  const client = await start(t, here);
  const content = randomBytes(1, 50 * MIB);
  const answer = await client.smudge('plain.bin', content);
  t.is(answer.status, 'success');
  t.true(answer.content.equals(content));
  const peak = peakMemory(client.pid);
  t.true(peak < 120 * MIB, `${peak}`);
  const { code, stderr } = await client.end();
  t.is(code, 0);
  t.regex(
    stderr,
    /^git2db-filter: 1 file has filter=xet but is stored in git as plain content: plain\.bin\..*\n$/,
  );
  t.deepEqual(
    readdirSync(here.repository.path('.git')).filter((name) => name.startsWith('.')),
    [],
  );
  t.false(existsSync(here.repository.store), 'nothing was stored');
});

function peakMemory(pid: number): number {
  const match = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'));
  return Number(match![1]) * 1024;
}

// The end of the input

interface Cut {
  readonly code: number | null;
  readonly stderr: string;
  readonly stdout: Buffer;
}

async function feed(sandbox: XetSandbox, cwd: string, input: Buffer, env: NodeJS.ProcessEnv): Promise<Cut> {
  const child = spawn(sandbox.filter[0], [], { cwd, env: { ...sandbox.env, ...env } });
  const out: Buffer[] = [];
  let stderr = '';
  child.stdout.on('data', (piece: Buffer) => out.push(piece));
  child.stderr.on('data', (piece: Buffer) => {
    stderr += piece.toString();
  });
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stderr, stdout: Buffer.concat(out) };
}

test.serial(
  'input cut at any byte: what was acknowledged is sealed, nothing else is left, and one line says so',
  async (t) => {
    const { sandbox, repository } = await setUp(t);
    const contents = [Buffer.from('content')];
    const handshake = Buffer.concat([
      listOf('git-filter-client', 'version=2'),
      listOf('capability=clean', 'capability=smudge', 'capability=delay'),
    ]);
    const requests = [
      ...contents.map((content, i) =>
        Buffer.concat([listOf('command=clean', pathLine(`${i}`)), contentOf(content)]),
      ),
      Buffer.concat([listOf('command=smudge', pathLine('s')), contentOf('no pointer')]),
      listOf('command=list_available_blobs'),
    ];
    const whole = Buffer.concat([handshake, ...requests]);
    const boundaries: number[] = [handshake.length];
    for (const request of requests) boundaries.push(boundaries.at(-1)! + request.length);
    const files = (stdout: Buffer) =>
      [...stdout.toString('latin1').matchAll(/"hash":"([0-9a-f]{64})"/g)].map((match) => match[1]!);

    async function check(cut: number): Promise<void> {
      const store = sandbox.path(`store${cut}`);
      const env = { GIT_CONFIG_COUNT: '1', GIT_CONFIG_KEY_0: 'xet.store', GIT_CONFIG_VALUE_0: store };
      const { code, stderr, stdout } = await feed(sandbox, repository.dir, whole.subarray(0, cut), env);
      const between = boundaries.includes(cut);
      const lines = stderr.split('\n').filter((line) => line !== '' && !line.includes('plain content'));
      t.is(code === 0, between, `cut at ${cut}: status ${code}, ${stderr}`);
      t.is(lines.length, between ? 0 : 1, `cut at ${cut}: ${stderr}`);
      if (!between)
        t.regex(lines[0]!, /^git2db-filter: the input ended at byte \d+, inside /, `cut at ${cut}`);
      const acknowledged = files(stdout);
      t.is(acknowledged.length, contents.filter((_, i) => cut >= boundaries[i + 1]!).length, `cut at ${cut}`);
      assertNothingIncoming(t, store);
      const opened = new LocalStore(store);
      for (const hash of acknowledged)
        t.truthy(new Downloader(opened).plan(parseHash(hash)), `cut at ${cut}`);
      opened.close();
      const objects = storeFiles(store).filter((line) => line.startsWith('xorbs/'));
      t.is(objects.length, acknowledged.length === 0 ? 0 : 1, `cut at ${cut}`);
      rmSync(store, { recursive: true, force: true });
    }
    const cuts = [0, 1, 40, handshake.length - 1];
    for (let cut = handshake.length; cut <= whole.length; cut++) cuts.push(cut);
    await Promise.all(
      [0, 1, 2, 3].map(async () => {
        for (let cut = cuts.pop(); cut !== undefined; cut = cuts.pop()) await check(cut);
      }),
    );
    t.deepEqual(
      readdirSync(repository.path('.git')).filter((name) => name.startsWith('.git2db')),
      [],
    );
  },
);

test.serial(
  'input that ends in the middle of a large file drops that file, and keeps the one before',
  async (t) => {
    const here = await setUp(t);
    const client = await start(t, here);
    const kept = randomBytes(1, 3 * MIB);
    const { content: pointer } = await client.clean('kept.bin', kept);
    await client.send(
      listOf('command=clean', pathLine('cut.bin')),
      contentOf(randomBytes(2, 20 * MIB)).subarray(0, -4),
    );
    const { code, stderr } = await client.end();
    t.is(code, 1);
    t.regex(stderr, /^git2db-filter: the input ended at byte \d+, inside content.*\n$/);
    assertNothingIncoming(t, here.repository.store);
    const stored = storeFiles(here.repository.store).find((line) => line.startsWith('xorbs/'));
    t.true(Number(stored?.split(' ')[1]) < 4 * MIB, stored);
    const reader = await start(t, here);
    t.true((await reader.smudge('kept.bin', pointer)).content.equals(kept));
    await endWell(t, reader);
  },
);

const malformed = test.macro({
  async exec(t, bytes: string, message: RegExp) {
    const here = await setUp(t);
    const client = await start(t, here);
    const { content: pointer } = await client.clean('a.bin', 'content');
    await client.send(Buffer.from(bytes));
    const { code, stderr } = await client.end();
    t.is(code, 1);
    t.regex(stderr, message);
    t.is(stderr.split('\n').length, 2, stderr);
    assertNothingIncoming(t, here.repository.store);
    const reader = await start(t, here);
    t.is((await reader.smudge('a.bin', pointer)).content.toString(), 'content');
    await endWell(t, reader);
  },
  title: (_, bytes) => `${JSON.stringify(bytes)} in place of a packet ends the session, not what was stored`,
});
test.serial(
  malformed,
  'GET / HTTP/1.1\r\n\r\n',
  /expected a packet length of four hexadecimal digits, found "GET "/,
);
test.serial(malformed, '0003', /packet length 3 is not one of/);
test.serial(malformed, 'ffff', /packet length 65535 is not one of/);

test.serial('who starts it by hand, or speaks another version, is told so', async (t) => {
  const { sandbox, repository } = await setUp(t);
  for (const input of [
    Buffer.from('hello\n'),
    listOf('git-filter-client', 'version=3'),
    listOf('hi', 'version=2'),
  ]) {
    const { code, stderr, stdout } = await feed(sandbox, repository.dir, input, {});
    t.is(code, 1);
    t.is(stdout.length, 0);
    t.regex(stderr, /^git2db-filter: .+\n$/);
  }
});

// Closed pipes and signals

test.serial('a client that stops reading ends the filter quietly, and keeps what it was told', async (t) => {
  const here = await setUp(t);
  const client = await start(t, here);
  const content = randomBytes(1, 8 * MIB);
  const { content: pointer } = await client.clean('a.bin', content);
  await client.send(listOf('command=smudge', pathLine('a.bin')), contentOf(pointer));
  t.deepEqual((await client.readList()).map(String), ['status=success']);
  client.closeOutput();
  await endWell(t, client);
  assertNothingIncoming(t, here.repository.store);
  const reader = await start(t, here);
  t.true((await reader.smudge('a.bin', pointer)).content.equals(content));
  await endWell(t, reader);
});

test.serial(
  'a client that closes its reading end before the first answer ends the filter quietly',
  async (t) => {
    const here = await setUp(t);
    const client = FilterClient.spawn(t, here.sandbox.filter, {
      cwd: here.repository.dir,
      env: { ...here.sandbox.env },
    });
    client.closeOutput();
    await client.send(listOf('git-filter-client', 'version=2'), listOf('capability=clean'));
    await endWell(t, client);
  },
);

test.serial('SIGPIPE does not end it', async (t) => {
  const here = await setUp(t);
  const client = await start(t, here);
  t.is((await client.clean('a', 'a')).status, 'success');
  client.kill('SIGPIPE');
  t.is((await client.clean('b', 'b')).status, 'success');
  await endWell(t, client);
});

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test.serial(
    `after ${signal} what was acknowledged can be read, and the next writer tidies up`,
    async (t) => {
      const here = await setUp(t);
      const client = await start(t, here);
      const content = randomBytes(1, 200_000);
      const { content: pointer } = await client.clean('a.bin', content);
      client.kill(signal);
      await client.end();
      const reader = await start(t, here);
      t.true((await reader.smudge('a.bin', pointer)).content.equals(content));
      t.is((await reader.clean('b.bin', 'b')).status, 'success');
      await endWell(t, reader);
      assertNothingIncoming(t, here.repository.store);
      const later = await start(t, here);
      t.true((await later.smudge('a.bin', pointer)).content.equals(content));
      await endWell(t, later);
    },
  );
}

// Requests

test.serial('an unknown command fails alone, unknown keys and capabilities mean nothing', async (t) => {
  const here = await setUp(t);
  const client = await FilterClient.start(t, here.sandbox.filter, {
    cwd: here.repository.dir,
    env: { ...here.sandbox.env },
    capabilities: ['merge', 'clean', 'x=y', 'smudge'],
  });
  t.deepEqual(client.granted, ['clean', 'smudge']);
  t.is((await client.request(['command=merge', pathLine('a')], randomBytes(1, MIB))).status, 'error');
  t.is((await client.request(['pathname=a'], 'no command')).status, 'error');
  t.is((await client.request(['command=clean'], 'no path')).status, 'error');
  t.is((await client.request(['command=smudge'], 'no path')).status, 'error');
  const known = await client.request(
    ['command=clean', 'attr=filter=xet', 'pathname=a', 'junk', '=', 'can-delay=2'],
    'content',
  );
  t.regex(known.content.toString(), POINTER);
  const { code, stderr } = await client.end();
  t.is(code, 0);
  t.is(stderr.split('\n').length, 5, stderr);
  assertNothingIncoming(t, here.repository.store);
});

test.serial('paths of any bytes are paths, and are named on one line when something is wrong', async (t) => {
  const here = await setUp(t, { 'xet.onMissing': 'error' });
  const client = await start(t, here);
  const paths = [
    'a=b',
    'new\nline',
    'ends in newline\n',
    'command=clean',
    Buffer.from([0x66, 0xff, 0x09]),
    '"',
    'x'.repeat(60_000),
  ];
  const stray = `{"version":"1.0","filesize":5,"hash":"${'5eed'.repeat(16)}"}\n`;
  for (const path of paths) {
    const { content: pointer } = await client.clean(path, `content of ${path}`);
    t.is((await client.smudge(path, pointer)).content.toString(), `content of ${path}`);
    t.is((await client.smudge(path, pointer, { canDelay: true })).status, 'delayed');
    t.deepEqual((await client.listAvailable()).paths, [Buffer.from(path as string)]);
    t.is((await client.smudge(path, '')).content.toString(), `content of ${path}`);
    t.is((await client.smudge(path, stray)).status, 'error');
  }
  const { stderr } = await client.end();
  const lines = stderr.trimEnd().split('\n');
  t.is(lines.length, paths.length);
  t.true(lines[1]!.startsWith('git2db-filter: "new\\nline": the content'), lines[1]);
  t.true(lines[4]!.startsWith('git2db-filter: "f\\377\\t": the content'), lines[4]);
});

test.serial('delayed files come in any order, over several rounds, each with its own content', async (t) => {
  const here = await setUp(t);
  const writer = await start(t, here);
  // Small ones, and enough in all for threads to read ahead.
  const contents = [...Array(12).keys()].map((i) => randomBytes(i, i % 3 === 0 ? 12 * MIB : 1000 + i));
  const pointers: Buffer[] = [];
  for (const content of contents) pointers.push((await writer.clean('x', content)).content);
  await endWell(t, writer);

  const client = await start(t, here);
  const stray = `{"version":"1.0","filesize":5,"hash":"${'5eed'.repeat(16)}"}\n`;
  for (const round of [0, 1]) {
    for (const [i, pointer] of pointers.entries()) {
      t.is((await client.smudge(`${i}`, pointer, { canDelay: true })).status, 'delayed');
    }
    t.is((await client.smudge('stray', stray, { canDelay: true })).status, 'delayed');
    t.is((await client.smudge('plain', 'plain', { canDelay: true })).content.toString(), 'plain');
    t.is((await client.smudge('empty', '', { canDelay: true })).status, 'success');
    const listed = new Set<string>();
    for (;;) {
      const { paths, status } = await client.listAvailable();
      t.is(status, 'success');
      if (paths.length === 0) break;
      const names = paths.map(String);
      for (const name of names) {
        t.false(listed.has(name), `${name} is listed once`);
        listed.add(name);
      }
      // Backwards in the first round; in the second the large ones first.
      const order = round === 0 ? names.reverse() : names.sort((a, b) => (Number(a) % 3) - (Number(b) % 3));
      for (const name of order) {
        const answer = await client.smudge(name, '');
        if (name === 'stray') t.is(answer.status, 'error');
        else t.true(answer.content.equals(contents[Number(name)]!), `round ${round}, ${name}`);
      }
    }
    t.is(listed.size, contents.length + 1);
  }
  const { code, stderr } = await client.end();
  t.is(code, 0);
  t.regex(
    stderr,
    /^git2db-filter: stray: .*\ngit2db-filter: stray: .*\ngit2db-filter: 2 files have filter=xet .*\n$/,
  );
});

test.serial('delayed files that nobody fetches cost nothing', async (t) => {
  const here = await setUp(t);
  const client = await start(t, here);
  const { content: pointer } = await client.clean('x', randomBytes(1, 3 * MIB));
  for (let i = 0; i < 50; i++)
    t.is((await client.smudge(`${i}`, pointer, { canDelay: true })).status, 'delayed');
  t.is((await client.listAvailable()).paths.length, 50);
  t.true((await client.smudge('7', '')).content.equals(randomBytes(1, 3 * MIB)));
  await endWell(t, client);
});

test.serial('cleaning and smudging may alternate while delayed files wait', async (t) => {
  const here = await setUp(t);
  const client = await start(t, here);
  const contents = [...Array(6).keys()].map((i) => randomBytes(i, 700_000));
  const pointers: Buffer[] = [];
  for (const [i, content] of contents.entries()) {
    pointers.push((await client.clean(`${i}`, content)).content);
    t.is((await client.smudge(`${i}`, pointers[i]!, { canDelay: true })).status, 'delayed');
    if (i % 2 === 0) t.true((await client.listAvailable()).paths.length > 0);
    t.true((await client.smudge('now', pointers[0]!)).content.equals(contents[0]!));
  }
  t.deepEqual((await client.listAvailable()).paths.map(String), ['5']);
  for (const i of [3, 0, 5, 1, 4, 2])
    t.true((await client.smudge(`${i}`, '')).content.equals(contents[i]!), `${i}`);
  await endWell(t, client);
});

// Together

test.serial(
  'several filters alive at once read what the others have acknowledged, whoever ends first',
  async (t) => {
    const here = await setUp(t);
    const clients = [await start(t, here), await start(t, here), await start(t, here)];
    const contents = clients.map((_, i) => randomBytes(i, 2 * MIB + i));
    const common = randomBytes(9, 300_000);
    const pointers: Buffer[] = [];
    for (const [i, client] of clients.entries()) {
      pointers.push((await client.clean('own', contents[i]!)).content);
      const shared = await client.clean('common', common);
      for (const other of clients) {
        t.true((await other.smudge('own', pointers[i]!)).content.equals(contents[i]!));
        t.true((await other.smudge('common', shared.content)).content.equals(common));
      }
    }
    await endWell(t, clients[1]!);
    for (const client of [clients[0]!, clients[2]!]) {
      for (const [i, pointer] of pointers.entries()) {
        t.true((await client.smudge('own', pointer)).content.equals(contents[i]!));
      }
    }
    await endWell(t, clients[2]!);
    await endWell(t, clients[0]!);
    assertNothingIncoming(t, here.repository.store);
  },
);

test.serial(
  'a file whose repository cannot be entered in the store fails alone and takes nothing with it',
  async (t) => {
    const sandbox = createXetSandbox(t, { config: { 'xet.store': '~/common' } });
    const repository = await sandbox.repository();
    const client = await start(t, { sandbox, repository });
    // In the place of the temporary file with which the entry begins.
    const entry = createHash('sha256').update(repository.path('.git')).digest('hex').slice(0, 40);
    const obstacle = join(sandbox.home, 'common', 'users', `${entry}.${client.pid}.tmp`);
    mkdirSync(obstacle, { recursive: true });
    // So much that a part of it is stored by then.
    t.is((await client.clean('a.bin', randomBytes(1, 5 * MIB))).status, 'error');
    rmdirSync(obstacle);
    const content = randomBytes(2, 5 * MIB);
    const { content: pointer } = await client.clean('b.bin', content);
    t.true((await client.smudge('b.bin', pointer)).content.equals(content));
    // Another process reads it by the journal alone.
    const other = await start(t, { sandbox, repository });
    t.true((await other.smudge('b.bin', pointer)).content.equals(content));
    await endWell(t, other);
    const { code, stderr } = await client.end();
    t.is(code, 0);
    t.is(stderr.split('\n').length, 2, stderr);
  },
);

// Tracing

test.serial('a trace goes to stderr or a file, and never to stdout', async (t) => {
  const here = await setUp(t);
  const trace = here.sandbox.path('trace');
  const client = await start(t, here, { GIT2DB_FILTER_TRACE: trace });
  await client.clean('a\nb', 'x');
  await endWell(t, client);
  t.regex(readFileSync(trace, 'utf8'), /^git2db-filter\[\d+\] \+[\d.]+ms clean "a\\nb"\n.* success: /);
  const loud = await start(t, here, { GIT2DB_FILTER_TRACE: '1' });
  await loud.clean('a', 'x');
  t.regex((await loud.end()).stderr, /^git2db-filter\[\d+\] \+[\d.]+ms clean a\n/);
});

// One file

test.serial('clean and smudge of one file speak raw bytes', async (t) => {
  const { sandbox, repository } = await setUp(t);
  const run = (args: string[], input: Buffer | string) =>
    sandbox.run('git2db-filter', args, { cwd: repository.dir, input });
  const content = randomBytes(1, 3 * MIB);
  const cleaned = await run(['clean', 'a.bin'], content);
  t.like(cleaned, { status: 0, stderr: '' });
  t.regex(cleaned.stdout, POINTER);
  const smudged = await run(['smudge', 'a.bin'], cleaned.stdoutBytes);
  t.like(smudged, { status: 0, stderr: '' });
  t.true(smudged.stdoutBytes.equals(content));
  t.is((await run(['clean'], cleaned.stdout)).stdout, cleaned.stdout);
  t.is((await run(['clean'], '')).stdout, '');
  t.is((await run(['smudge'], '')).stdout, '');
  const plain = await run(['smudge', 'p.bin'], content);
  t.true(plain.stdoutBytes.equals(content));
  t.regex(
    plain.stderr,
    /^git2db-filter: 1 file has filter=xet but is stored in git as plain content: p\.bin\./,
  );
  const missing = await run(['smudge', 'm.bin'], cleaned.stdout.replace(/[0-9a-f]{64}/, '5eed'.repeat(16)));
  t.like(missing, { status: 1, stdout: '' });
  t.regex(missing.stderr, /^git2db-filter: m\.bin: the content .*\n$/);
  assertNothingIncoming(t, repository.store);
  await assertClean(t, repository);
});

test.serial('clean of one file leaves nothing unfinished when nobody wants the pointer', async (t) => {
  const { sandbox, repository } = await setUp(t);
  repository.write('a', randomBytes(1, 100_000));
  const { stderr } = await sandbox.runOk('sh', ['-c', '(sleep 0.2; exec git2db-filter clean a <a) | true'], {
    cwd: repository.dir,
  });
  t.is(stderr, '');
  assertNothingIncoming(t, repository.store);
});

test.serial('outside of a repository there is no store, and a line says so', async (t) => {
  const sandbox = createXetSandbox(t);
  const run = await sandbox.run('git2db-filter', ['clean', 'x'], { input: 'x' });
  t.like(run, { status: 1, stdout: '' });
  t.regex(run.stderr, /^git2db-filter: x: .* is in no git repository.*\n$/);
});

test.serial('--help, --version, and what it does not know', async (t) => {
  const sandbox = createXetSandbox(t);
  for (const flag of ['--help', '-h']) {
    const help = await sandbox.run('git2db-filter', [flag]);
    t.like(help, { status: 0, stderr: '' });
    t.regex(help.stdout, /^usage: git2db-filter/);
  }
  const version = await sandbox.run('git2db-filter', ['--version']);
  t.like(version, { status: 0, stderr: '' });
  t.regex(version.stdout, /^git2db-filter \d+\.\d+\.\d+\S*\n$/);
  for (const args of [['--frob'], ['cleann'], ['clean', 'a', 'b']]) {
    const run = await sandbox.run('git2db-filter', args, { input: 'x' });
    t.like(run, { status: 2, stdout: '' });
    t.regex(run.stderr, /^git2db-filter: unknown argument .*\nusage: /);
  }
});

test.serial('settings that make no sense are errors that name them', async (t) => {
  const here = await setUp(t, { 'xet.onMissing': 'maybe' });
  const client = await start(t, here);
  t.is((await client.clean('a', 'a')).status, 'error');
  t.is((await client.clean('b', 'b')).status, 'error');
  t.regex((await client.end()).stderr, /xet\.onMissing is "maybe"; it can be error, pointer/);
});
