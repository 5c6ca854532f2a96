/**
 * What has been acknowledged stays readable, whatever happens to the process that stored it: killed at
 * any point, out of space, stopped, watched from another PID namespace.
 */

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { contentOf, FilterClient, listOf, pathLine } from '../helpers/filter-client.ts';
import {
  assertClean,
  assertNothingIncoming,
  createXetSandbox,
  filesUnder,
  randomBytes,
  type Tree,
  writeTree,
  type XetRepository,
  type XetSandbox,
} from '../helpers/xet-sandbox.ts';

const MIB = 1 << 20;

interface Place {
  readonly sandbox: XetSandbox;
  readonly repository: XetRepository;
  readonly store: string;
  /** Everything that was acknowledged: pointer -> content. */
  readonly acknowledged: Map<string, Buffer>;
}

async function setUp(t: ExecutionContext, store?: string): Promise<Place> {
  const sandbox = createXetSandbox(t);
  const repository = await sandbox.repository();
  if (store !== undefined) await repository.git(['config', 'xet.store', store]);
  return { sandbox, repository, store: store ?? repository.store, acknowledged: new Map() };
}

function start(t: ExecutionContext, place: Place, wrapper: readonly string[] = []): Promise<FilterClient> {
  const { sandbox, repository } = place;
  return FilterClient.start(t, [...wrapper, ...sandbox.filter], {
    cwd: repository.dir,
    env: { ...sandbox.env },
  });
}

/** Cleans content, which must succeed, and notes that. */
async function store(client: FilterClient, place: Place, content: Buffer): Promise<string> {
  const { status, content: pointer } = await client.clean('x.bin', content);
  if (status !== 'success') throw new Error(`clean: ${status}`);
  place.acknowledged.set(pointer.toString(), content);
  return pointer.toString();
}

/** Another process gives back everything that was acknowledged. */
async function assertReadable(t: ExecutionContext, place: Place, when: string): Promise<void> {
  const reader = await start(t, place);
  for (const [pointer, content] of place.acknowledged) {
    const answer = await reader.smudge('x.bin', pointer);
    t.is(answer.status, 'success', `${when}: ${content.length} bytes`);
    t.true(answer.content.equals(content), when);
  }
  t.deepEqual(await reader.end(), { code: 0, signal: null, stderr: '' }, when);
}

/** A later writer finds nothing to complain about, and leaves nothing of the dead ones behind. */
async function assertRecovers(t: ExecutionContext, place: Place, when: string): Promise<void> {
  const writer = await start(t, place);
  await store(writer, place, Buffer.from(`written ${when}`));
  t.deepEqual(await writer.end(), { code: 0, signal: null, stderr: '' }, when);
  const incoming = join(place.store, 'incoming');
  for (const name of readdirSync(incoming)) {
    // Killed while it registered: it has nothing yet, and nobody can be sure of its death before a day is over.
    t.true(name.startsWith('.'), `${when}: ${name}`);
    for (const file of readdirSync(join(incoming, name))) t.regex(file, /^(alive|writer\.json)$/, when);
  }
  await assertReadable(t, place, `${when}, recovered`);
}

let seed = 0;

function fresh(size: number): Buffer {
  return randomBytes(++seed, size);
}

// Killed

type Step = (client: FilterClient, place: Place) => Promise<void>;

const DEATHS: readonly (readonly [name: string, before: Step])[] = [
  ['before anything', async () => {}],
  ['after a request line', (client) => client.send(listOf('command=clean', pathLine('x')))],
  [
    'in the middle of a small file',
    (client) => client.send(listOf('command=clean', pathLine('x')), contentOf(fresh(1000)).subarray(0, 700)),
  ],
  [
    'in the middle of a large file',
    (client) =>
      client.send(listOf('command=clean', pathLine('x')), contentOf(fresh(12 * MIB)).subarray(0, -9 * 65520)),
  ],
  [
    'before the last flush of a large file',
    (client) =>
      client.send(listOf('command=clean', pathLine('x')), contentOf(fresh(3 * MIB)).subarray(0, -4)),
  ],
  [
    'after a file of which nobody read the answer',
    (client) => client.send(listOf('command=clean', pathLine('x')), contentOf(fresh(MIB))),
  ],
  [
    'after a file that is known',
    async (client, place) => {
      await store(client, place, [...place.acknowledged.values()][0]!);
    },
  ],
  [
    'after a part of a file it had',
    async (client, place) => {
      await store(client, place, [...place.acknowledged.values()][0]!.subarray(0, 700_000));
    },
  ],
  [
    'while it gives out a file',
    async (client, place) => {
      await client.send(
        listOf('command=smudge', pathLine('x')),
        contentOf([...place.acknowledged.keys()][0]!),
      );
      await client.readList();
    },
  ],
];

for (const [name, before] of DEATHS) {
  for (const files of [0, 1, 3]) {
    if (files === 0 && /known|part|gives/.test(name)) continue;
    test.serial(
      `killed ${name}, after ${files} files: each of them is there, at once and later`,
      async (t) => {
        const place = await setUp(t);
        const client = await start(t, place);
        for (let i = 0; i < files; i++) await store(client, place, fresh(i === 0 ? 2 * MIB : 1000 * i));
        await before(client, place);
        client.kill('SIGKILL');
        await client.end().catch(() => {});
        await assertReadable(t, place, 'at once');
        await assertRecovers(t, place, 'later');
      },
    );
  }
}

test.serial(
  'killed at any moment of its end: everything acknowledged is there, at once and later',
  async (t) => {
    const place = await setUp(t);
    for (let delayMs = 0; delayMs < 24; delayMs += 2) {
      const client = await start(t, place);
      await store(client, place, fresh(300_000));
      await store(client, place, fresh(500));
      client.closeInput();
      await sleep(delayMs);
      client.kill('SIGKILL');
      await client.end();
      await assertReadable(t, place, `killed after ${delayMs} ms`);
    }
    await assertRecovers(t, place, 'in the end');
  },
);

test.serial('killed again and again while it completes the work of one that was killed', async (t) => {
  const place = await setUp(t);
  const first = await start(t, place);
  for (const size of [3 * MIB, 100, 200_000]) await store(first, place, fresh(size));
  first.kill('SIGKILL');
  await first.end();
  for (let delayMs = 0; delayMs < 24; delayMs += 2) {
    const next = await start(t, place);
    await store(next, place, fresh(2000));
    next.closeInput();
    await sleep(delayMs);
    next.kill('SIGKILL');
    await next.end();
    await assertReadable(t, place, `killed after ${delayMs} ms`);
  }
  await assertRecovers(t, place, 'in the end');
});

test.serial('git add killed while it writes can be done again, and nothing is lost', async (t) => {
  const place = await setUp(t);
  const { repository, sandbox } = place;
  const tree: Tree = [
    ['a.bin', fresh(200_000)],
    ['b.bin', fresh(16 * MIB)],
    ['c.bin', fresh(3000)],
  ];
  writeTree(repository, tree);
  for (const bytes of [1, 100_000, 5 * MIB, 12 * MIB]) {
    const add = spawn('git', ['add', '.'], { cwd: repository.dir, env: sandbox.env, stdio: 'ignore' });
    const ended = once(add, 'exit');
    while (add.exitCode === null) {
      const incoming = filesUnder(join(place.store, 'incoming'));
      const [record] = [...incoming.keys()].filter(
        (path) => path.endsWith('writer.json') && !path.startsWith('.'),
      );
      const size = [...incoming].reduce(
        (sum, [path, count]) => sum + (path.endsWith('.xorb') ? count : 0),
        0,
      );
      if (record !== undefined && size >= bytes) {
        try {
          const { pid } = JSON.parse(readFileSync(join(place.store, 'incoming', record), 'utf8')) as {
            pid: number;
          };
          if (isFilter(pid)) process.kill(pid, 'SIGKILL');
        } catch (error) {
          // It has ended, or tidied that away, between two looks.
          if (!['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
        }
      }
      await sleep(1);
    }
    await ended;
    for (const lock of ['index.lock']) rmSync(repository.path('.git', lock), { force: true });
  }
  await repository.commit('all');
  for (const [path] of tree) rmSync(repository.path(path as string));
  await repository.git(['checkout', '-q', '.']);
  await assertClean(t, repository, tree);
});

/** A process id read from a file may be anybody's by now. */
function isFilter(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes('git2db-filter');
  } catch {
    return false;
  }
}

// Alive

test.serial('a writer that is idle, or even stopped, is left alone by those who come and go', async (t) => {
  const place = await setUp(t);
  const idle = await start(t, place);
  await store(idle, place, fresh(2 * MIB));
  const stopped = await start(t, place);
  await store(stopped, place, fresh(300_000));
  stopped.kill('SIGSTOP');
  const before = readdirSync(join(place.store, 'incoming')).sort();
  t.is(before.length, 2);
  for (let i = 0; i < 3; i++) {
    const other = await start(t, place);
    await store(other, place, fresh(10_000));
    t.deepEqual(await other.end(), { code: 0, signal: null, stderr: '' });
    await assertReadable(t, place, `visitor ${i}`);
    t.deepEqual(readdirSync(join(place.store, 'incoming')).sort(), before);
  }
  stopped.kill('SIGCONT');
  await store(stopped, place, fresh(400_000));
  t.deepEqual(await stopped.end(), { code: 0, signal: null, stderr: '' });
  await store(idle, place, fresh(400_000));
  t.deepEqual(await idle.end(), { code: 0, signal: null, stderr: '' });
  assertNothingIncoming(t, place.store);
  await assertReadable(t, place, 'in the end');
});

test.serial(
  'a hook that checks everything out reads what the commit around it has just stored',
  async (t) => {
    const sandbox = createXetSandbox(t);
    const repository = await sandbox.repository();
    const first: Tree = [
      ['a.bin', fresh(300_000)],
      ['b.bin', fresh(5000)],
    ];
    writeTree(repository, first);
    await repository.commit('first');
    const hook = repository.path('.git/hooks/pre-commit');
    writeFileSync(
      hook,
      '#!/bin/sh\ngit checkout-index -a --prefix=../out/ && rm a.bin && git checkout-index a.bin && git add b.bin\n',
      {
        mode: 0o755,
      },
    );
    const second: Tree = [
      ['a.bin', fresh(2 * MIB)],
      ['b.bin', fresh(6000)],
    ];
    writeTree(repository, second);
    await repository.git(['commit', '-q', '-a', '-m', 'second']);
    for (const [path, content] of second) {
      t.true(readFileSync(sandbox.path('out', path as string)).equals(content as Buffer), `${path}`);
    }
    await assertClean(t, repository, second);
  },
);

test.serial('who reads while a writer seals notices nothing', async (t) => {
  const place = await setUp(t);
  const reader = await start(t, place);
  for (let round = 0; round < 6; round++) {
    const writer = await start(t, place);
    for (const size of [400_000, 1000, 150_000]) await store(writer, place, fresh(size));
    const contents = [...place.acknowledged].slice(-3);
    let sealed = false;
    const end = writer.end().then((exit) => {
      sealed = true;
      return exit;
    });
    for (let last = false; !last; ) {
      last = sealed;
      for (const [pointer, content] of contents) {
        const answer = await reader.smudge('x', pointer);
        t.true(answer.content.equals(content), `round ${round}: ${answer.status}`);
      }
    }
    t.deepEqual(await end, { code: 0, signal: null, stderr: '' });
  }
  t.deepEqual(await reader.end(), { code: 0, signal: null, stderr: '' });
  assertNothingIncoming(t, place.store);
});

test.serial(
  'several that find the same dead writers at once complete each of them, under the eyes of readers',
  async (t) => {
    const place = await setUp(t);
    for (const size of [500_000, 2000, 300_000, 10]) {
      const victim = await start(t, place);
      await store(victim, place, fresh(size));
      await store(victim, place, fresh(size + 1));
      victim.kill('SIGKILL');
      await victim.end();
    }
    const rescuers = await Promise.all([0, 1, 2, 3].map(() => start(t, place)));
    for (const rescuer of rescuers) await store(rescuer, place, fresh(5000));
    const contents = [...place.acknowledged];
    const reader = await start(t, place);
    const ends = Promise.all(rescuers.map((rescuer) => rescuer.end()));
    for (let round = 0; round < 5; round++) {
      for (const [pointer, content] of contents) {
        const answer = await reader.smudge('x', pointer);
        t.true(answer.content.equals(content), `round ${round}: ${answer.status}`);
      }
    }
    for (const exit of await ends) t.deepEqual(exit, { code: 0, signal: null, stderr: '' });
    t.deepEqual(await reader.end(), { code: 0, signal: null, stderr: '' });
    await assertRecovers(t, place, 'in the end');
  },
);

// PID namespaces

const UNSHARE = ['unshare', '--propagation', 'slave', '--pid', '--fork', '--kill-child', '--mount-proc'];
const noNamespaces = reasonNot(() =>
  execFileSync(UNSHARE[0]!, [...UNSHARE.slice(1), 'true'], { stdio: 'ignore' }),
);

(noNamespaces ? test.skip : test.serial)(
  titleOf(
    'a writer in another PID namespace is left alone while it lives, and completed when it is dead',
    noNamespaces,
  ),
  async (t) => {
    const place = await setUp(t);
    const inside = await start(t, place, UNSHARE);
    await store(inside, place, fresh(200_000));
    const outside = await start(t, place);
    await store(outside, place, fresh(200_000));
    const before = readdirSync(join(place.store, 'incoming')).sort();
    for (const wrapper of [[], UNSHARE]) {
      const visitor = await start(t, place, wrapper);
      await store(visitor, place, fresh(1000));
      t.deepEqual(await visitor.end(), { code: 0, signal: null, stderr: '' });
      t.deepEqual(readdirSync(join(place.store, 'incoming')).sort(), before);
      await assertReadable(t, place, 'while both live');
    }
    inside.kill('SIGKILL');
    await inside.end();
    await store(outside, place, fresh(2000));
    t.deepEqual(await outside.end(), { code: 0, signal: null, stderr: '' });
    assertNothingIncoming(t, place.store);
    await assertReadable(t, place, 'in the end');

    const left = await start(t, place);
    await store(left, place, fresh(200_000));
    left.kill('SIGKILL');
    await left.end();
    const rescuer = await start(t, place, UNSHARE);
    await store(rescuer, place, fresh(1000));
    t.deepEqual(await rescuer.end(), { code: 0, signal: null, stderr: '' });
    assertNothingIncoming(t, place.store);
    await assertReadable(t, place, 'rescued from inside');
  },
);

// No space

const noMounts = reasonNot(() => {
  const probe = execFileSync('mktemp', ['-d'], { encoding: 'utf8' }).trim();
  try {
    execFileSync('mount', ['-t', 'tmpfs', 'none', probe], { stdio: 'ignore' });
    execFileSync('umount', [probe]);
  } finally {
    rmSync(probe, { recursive: true });
  }
});
const testMounted = noMounts ? test.skip : test.serial;

/** A file system of its own for the store, with room for this much. */
function mount(
  t: ExecutionContext,
  options: string,
): { readonly store: string; remount(options: string): void } {
  const directory = join(createXetSandbox(t).dir, 'disk');
  mkdirSync(directory);
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'none', directory]);
  t.teardown(() => execFileSync('umount', ['-l', directory]));
  return {
    store: join(directory, 'xet'),
    remount: (changed) => execFileSync('mount', ['-o', `remount,${changed}`, directory]),
  };
}

testMounted(
  titleOf('a disk that fills up while a file is added costs that file alone', noMounts),
  async (t) => {
    const disk = mount(t, 'size=6m');
    const place = await setUp(t, disk.store);
    const client = await start(t, place);
    await store(client, place, fresh(2 * MIB));
    t.is((await client.clean('too large', fresh(9 * MIB))).status, 'error');
    t.is((await client.clean('too large', fresh(20 * MIB))).status, 'error');
    await store(client, place, fresh(200_000));
    await assertReadable(t, place, 'on a full disk');
    const { code, stderr } = await client.end();
    t.is(code, 0, stderr);
    t.regex(
      stderr,
      /^(?:git2db-filter: too large: cannot write to the store .*: ENOSPC.* Free some space there.*\n){2}$/,
    );
    assertNothingIncoming(t, place.store);
    await assertReadable(t, place, 'sealed');
  },
);

testMounted(
  titleOf('git add on a full disk fails, loses nothing, and works when there is space again', noMounts),
  async (t) => {
    const disk = mount(t, 'size=4m');
    const { repository, store } = await setUp(t, disk.store);
    const tree: Tree = [
      ['a.bin', fresh(MIB)],
      ['b.bin', fresh(10 * MIB)],
    ];
    writeTree(repository, tree.slice(0, 1));
    await repository.commit('first');
    writeTree(repository, tree);
    const { stderr } = await repository.git(['add', '.'], { okStatus: [128] });
    t.regex(stderr, /git2db-filter: b\.bin: .*(?:ENOSPC|no space)/i);
    rmSync(repository.path('a.bin'));
    await repository.git(['checkout', '-q', '.']);
    disk.remount('size=40m');
    await repository.commit('second');
    for (const [path] of tree) rmSync(repository.path(path as string));
    await repository.git(['checkout', '-q', '.']);
    await assertClean(t, { ...repository, store }, tree);
  },
);

testMounted(
  titleOf('a disk that is full when the writer ends has room for what was promised', noMounts),
  async (t) => {
    const disk = mount(t, 'size=12m');
    const place = await setUp(t, disk.store);
    const client = await start(t, place);
    await store(client, place, fresh(3 * MIB));
    for (let i = 0; i < 20; i++) await store(client, place, fresh(50_000 + i));
    const filler = fill(join(disk.store, '..', 'filler'));
    const { code, stderr } = await client.end();
    // The catalog, a cache, may have to wait.
    t.is(code, 0, stderr);
    assertNothingIncoming(t, place.store);
    await assertReadable(t, place, 'sealed on a full disk');
    rmSync(filler);
    await assertRecovers(t, place, 'with space again');
  },
);

testMounted(
  titleOf('an end that cannot be completed says so and is completed by the next writer', noMounts),
  async (t) => {
    const disk = mount(t, 'size=20m,nr_inodes=100');
    const place = await setUp(t, disk.store);
    const client = await start(t, place);
    await store(client, place, fresh(500_000));
    // Directories need inodes, which nobody can reserve.
    const stuffing = join(disk.store, '..', 'stuffing');
    mkdirSync(stuffing);
    try {
      for (let i = 0; ; i++) writeFileSync(join(stuffing, `${i}`), '');
    } catch (error) {
      t.is((error as NodeJS.ErrnoException).code, 'ENOSPC');
    }
    const { code, stderr } = await client.end();
    t.is(code, 1);
    t.true(stderr.includes(join(disk.store, 'incoming')), stderr);
    t.regex(stderr, /^git2db-filter: could not publish 1 stored file.*ENOSPC.*Nothing is lost.*\n$/);
    await assertReadable(t, place, 'unsealed');
    rmSync(stuffing, { recursive: true });
    await assertRecovers(t, place, 'with space again');
  },
);

testMounted(
  titleOf('a store on a read-only file system gives content, knows what it has, and takes no more', noMounts),
  async (t) => {
    const disk = mount(t, 'size=20m');
    const place = await setUp(t, disk.store);
    const { repository } = place;
    const tree: Tree = [['a.bin', fresh(MIB)]];
    writeTree(repository, tree);
    await repository.commit('a');
    disk.remount('ro');
    rmSync(repository.path('a.bin'));
    await repository.git(['checkout', '-q', '.']);
    // So soon after the checkout this cleans the file again.
    await assertClean(t, { ...repository, store: place.store }, tree);
    repository.write('copy.bin', tree[0]![1]);
    await repository.git(['add', 'copy.bin']);
    repository.write('b.bin', 'new');
    const { stderr } = await repository.git(['add', '.'], { okStatus: [128] });
    t.regex(stderr, /git2db-filter: b\.bin: cannot write to the store .*EROFS.*git config xet\.store/);
    disk.remount('rw');
    await repository.commit('b and the copy');
    await assertClean(t, { ...repository, store: place.store }, tree);
  },
);

/** Writes a file as large as the disk has room for; its path. */
function fill(path: string): string {
  const block = Buffer.alloc(4096);
  try {
    for (;;) writeFileSync(path, block, { flag: 'a' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  }
  return path;
}

function reasonNot(attempt: () => void): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root';
  try {
    attempt();
    return undefined;
  } catch {
    return 'not allowed here';
  }
}

function titleOf(title: string, reason: string | undefined): string {
  return reason === undefined ? title : `${title} (${reason})`;
}
