import { createHash } from 'node:crypto';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import fc from 'fast-check';
import { DelayQueue } from '../../src/filter-process/delay-queue.ts';
import { negotiate } from '../../src/filter-process/handshake.ts';
import { EndOfInput } from '../../src/filter-process/pkt-input.ts';
import { OutputClosed } from '../../src/filter-process/pkt-output.ts';
import { runSession } from '../../src/filter-process/session.ts';
import { quotePath, traceTo } from '../../src/filter-process/trace.ts';
import { FakeConverter, pattern } from '../helpers/fake-converter.ts';
import { fakeInput, fakeOutput, type Step, temporaryDirectory } from '../helpers/fake-streams.ts';
import { type Bytes, contentOf, FilterClient, FLUSH, listOf, pathLine } from '../helpers/filter-client.ts';

const FAKE_FILTER = [process.execPath, fileURLToPath(new URL('../helpers/fake-filter.js', import.meta.url))];

const WELCOME = listOf('git-filter-client', 'version=2');
const CAPABILITIES = listOf('capability=clean', 'capability=smudge', 'capability=delay');
const SERVER = listOf('git-filter-server', 'version=2');
const SUCCESS = listOf('status=success');
const ERROR = listOf('status=error');
const DELAYED = listOf('status=delayed');
const LIST = listOf('command=list_available_blobs');

/** A request, content included. */
function request(command: string, path: Bytes, content: Bytes, ...keys: string[]): Buffer {
  return Buffer.concat([listOf(`command=${command}`, pathLine(path), ...keys), contentOf(content)]);
}

/** The answer that converted to `content`. */
function converted(content: Bytes): Buffer {
  return Buffer.concat([SUCCESS, contentOf(content), FLUSH]);
}

/** The session over `requests`, to its end. */
async function converse(
  requests: readonly Buffer[],
  { steps, converter = new FakeConverter() }: { steps?: readonly Step[]; converter?: FakeConverter } = {},
) {
  const { output, bytes, calls } = fakeOutput();
  const end = await runSession(fakeInput(Buffer.concat(requests), steps), output, converter);
  return { end, answer: bytes(), converter, calls };
}

// Handshake

const grants = test.macro({
  exec(t, offered: string[], granted: string[]) {
    const { output, bytes } = fakeOutput();
    const lines = offered.map((name) => `capability=${name}`);
    const capabilities = negotiate(fakeInput(Buffer.concat([WELCOME, listOf(...lines)])), output);
    t.deepEqual([...capabilities], granted);
    const answer = listOf(...granted.map((name) => `capability=${name}`));
    t.deepEqual(bytes(), Buffer.concat([SERVER, answer]));
  },
  title: (_, offered, granted) => `of the capabilities [${offered}] we take [${granted}]`,
});
test(grants, ['clean', 'smudge', 'delay'], ['clean', 'smudge', 'delay']);
test(grants, ['delay', 'smudge'], ['smudge', 'delay']);
test(grants, ['clean'], ['clean']);
test(grants, ['merge', 'clean', 'cleaner', 'Smudge', 'clean'], ['clean']);
test(grants, [], []);

test('version 2 is found among other versions, and lines we do not know are ignored', (t) => {
  const { output, bytes } = fakeOutput();
  const welcome = listOf(
    'git-filter-client',
    'version=1',
    'version=42',
    'agent=git/9.0',
    'version=2',
    'version=3',
  );
  negotiate(fakeInput(Buffer.concat([welcome, CAPABILITIES])), output);
  t.deepEqual(bytes(), Buffer.concat([SERVER, CAPABILITIES]));
});

const refusesWelcome = test.macro({
  exec(t, lines: string[], message: RegExp) {
    const { output, bytes } = fakeOutput();
    t.throws(() => negotiate(fakeInput(listOf(...lines)), output), { code: 'PROTOCOL', message });
    t.is(bytes().length, 0);
  },
  title: (_, lines) => `the welcome [${lines}] is refused without an answer`,
});
test(refusesWelcome, ['git-filter-client'], /no version/);
test(refusesWelcome, ['git-filter-client', 'version=3', 'version=22'], /version=3, version=22/);
test(refusesWelcome, ['git-filter-server', 'version=2'], /"git-filter-server"/);
test(refusesWelcome, ['version=2', 'git-filter-client'], /"version=2"/);
test(refusesWelcome, [], /an empty list/);

test('a handshake that is cut anywhere is an EndOfInput, no stream at all included', (t) => {
  const whole = Buffer.concat([WELCOME, CAPABILITIES]);
  for (let length = 0; length < whole.length; length++) {
    t.throws(() => negotiate(fakeInput(whole.subarray(0, length)), fakeOutput().output), {
      instanceOf: EndOfInput,
    });
  }
});

// Conversions

test('a conversion is status, flush, content, flush, flush, in one system call', async (t) => {
  const { end, answer, calls } = await converse([request('clean', 'a', 'hello')]);
  t.is(end, 'eof');
  t.is(answer.toString(), '0013status=success\n00000009hello00000000');
  t.is(calls.length, 1);
});

test('the converter gets time for other work when git has its answer, also where that is a failure', async (t) => {
  const { output, bytes } = fakeOutput();
  const sizes: number[] = [];
  const converter = Object.assign(new FakeConverter(), { meanwhile: () => sizes.push(bytes().length) });
  const requests = [request('clean', 'a', 'hello'), request('smudge', 'fail-finish', 'x')];
  await runSession(fakeInput(Buffer.concat(requests)), output, converter);
  const first = converted('hello').length;
  t.deepEqual(sizes, [first, first + ERROR.length]);
});

test('any content in any packets and any slices comes back as it was, requests one after another', async (t) => {
  const requests = fc.array(
    fc.record({
      command: fc.constantFrom('clean', 'smudge'),
      path: fc.constantFrom('a', 'async'),
      content: fc.oneof(
        fc.uint8Array({ maxLength: 300 }),
        fc.integer({ min: 0, max: 300_000 }).map((size) => pattern(size)),
      ),
      packetSize: fc.oneof(fc.integer({ min: 200, max: 65_516 }), fc.constant(65_516)),
    }),
    { maxLength: 4 },
  );
  const steps = fc.array(fc.integer({ min: 1, max: 70_000 }), { maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(requests, steps, fc.boolean(), async (sent, sizes, overlay) => {
      const stream = sent.map(({ command, path, content, packetSize }) =>
        Buffer.concat([listOf(`command=${command}`, pathLine(path)), contentOf(content, packetSize)]),
      );
      const converter = new FakeConverter(overlay);
      const { answer } = await converse(stream, { steps: [...sizes, 65_520], converter });
      return answer.equals(Buffer.concat(sent.map(({ content }) => converted(content))));
    }),
    { numRuns: 60 },
  );
  t.pass();
});

test('the empty file is converted in both directions, and has no content packet', async (t) => {
  const { answer } = await converse([request('clean', 'a', ''), request('smudge', 'b', '')]);
  t.deepEqual(answer, Buffer.concat([SUCCESS, FLUSH, FLUSH, SUCCESS, FLUSH, FLUSH]));
});

test('a path arrives byte for byte, whatever it holds', async (t) => {
  const paths = ['a\n', '\n', 'tab\there', 'quo"te', "it's", 'a=b=c', ' ', '=', '', 'x'.repeat(65_506)].map(
    (path) => Buffer.from(path),
  );
  paths.push(Buffer.of(0xff, 0xfe, 0x2f, 0x80), Buffer.from([...Array(256).keys()].slice(1)));
  const { converter } = await converse(paths.map((path) => request('smudge', path, 'x')));
  t.deepEqual(
    converter.smudged.map(({ path }) => path),
    paths,
  );
  t.deepEqual(converter.reports, []);
});

test('the keys of a smudge are handed over, values keep their equal signs, unknown keys are ignored', async (t) => {
  const full = listOf(
    'command=smudge',
    'pathname=a',
    'ref=refs/heads/a=b',
    'treeish=1234',
    'blob=abcd',
    'can-delay=1',
    'later-key=1',
    'no key',
    '',
  );
  const other = listOf('pathname=b', 'command=smudge', 'can-delay=0');
  const { converter, answer } = await converse([full, contentOf('x'), other, contentOf('y')]);
  const [first, second] = converter.smudged;
  t.deepEqual(first, {
    path: Buffer.from('a'),
    ref: 'refs/heads/a=b',
    treeish: '1234',
    blob: 'abcd',
    canDelay: true,
  });
  t.deepEqual(second, { path: Buffer.from('b'), canDelay: false });
  t.deepEqual(answer, Buffer.concat([DELAYED, converted('y')]));
});

test('nothing is written before the whole content has been read', async (t) => {
  const { output, calls } = fakeOutput();
  const requests = [
    request('clean', 'a', pattern(200_000)),
    request('clean', 'fail-begin', pattern(200_000)),
    request('clean', 'fail-room', pattern(200_000)),
    request('smudge', 'fail-advance', pattern(200_000)),
    request('smudge', 'b', pattern(200_000), 'can-delay=1'),
    request('merge', 'c', pattern(200_000)),
  ];
  const ends = requests.map((_, index) => Buffer.concat(requests.slice(0, index + 1)).length);
  let taken = 0;
  const input = fakeInput(Buffer.concat(requests), [1000], (views) => {
    const answered = ends.filter((end) => end <= taken).length;
    if (calls.length > answered) t.fail(`answer ${calls.length} was given at byte ${taken}`);
    taken += Math.min(
      1000,
      views.reduce((sum, view) => sum + view.length, 0),
    );
  });
  t.is(await runSession(input, output, new FakeConverter()), 'eof');
  t.is(calls.length, requests.length);
});

test('memory given to content() may be used again after sync()', async (t) => {
  const size = 700_001;
  const { answer } = await converse([request('smudge', `generate=${size}`, 'x')]);
  const input = fakeInput(answer);
  input.readList();
  t.is(input.drainContent(), size);
  t.deepEqual(Buffer.concat(payloads(answer.subarray(SUCCESS.length))), pattern(size));
});

// Failures

const fails = test.macro({
  async exec(t, command: string, path: string, message: string, ended: string[]) {
    const { answer, converter } = await converse([
      request(command, path, pattern(200_000)),
      request('clean', 'next', 'x'),
    ]);
    t.deepEqual(answer, Buffer.concat([ERROR, converted('x')]));
    t.deepEqual(converter.reports, [`${path}: ${message}`]);
    t.deepEqual(converter.events, [`${command} ${path}`, ...ended, 'clean next']);
  },
  title: (_, command, path) => `${command} of ${path} answers the error alone, and the next file is served`,
});
for (const command of ['clean', 'smudge']) {
  test(fails, command, 'fail-begin', 'cannot begin', []);
  test(fails, command, 'fail-room', 'no room', ['abort fail-room']);
  test(fails, command, 'fail-advance', 'cannot advance', ['abort fail-advance']);
  test(fails, command, 'fail-finish', 'cannot finish', []);
}
test(fails, 'smudge', 'fail-early', 'failed early', ['dispose fail-early']);
test(fails, 'smudge', 'async fail-early', 'failed early', ['dispose async fail-early']);

test('a smudge that fails after its first bytes is retracted by the second list', async (t) => {
  const { answer, converter } = await converse([
    request('smudge', 'fail-late', 'x'),
    request('clean', 'next', 'x'),
  ]);
  t.true(answer.subarray(0, SUCCESS.length).equals(SUCCESS));
  const tail = Buffer.concat([FLUSH, ERROR, converted('x')]);
  t.deepEqual(answer.subarray(-tail.length), tail);
  const sent = Buffer.concat(payloads(answer.subarray(SUCCESS.length)));
  t.true(sent.length > 1 << 20 && sent.every((byte) => byte === 0));
  t.deepEqual(converter.reports, ['fail-late: failed late']);
  t.deepEqual(converter.events, ['smudge fail-late', 'dispose fail-late', 'clean next']);
});

test('a delay that git did not offer is an error of that file', async (t) => {
  const { answer, converter } = await converse([request('smudge', 'wrongly-delayed', 'x')]);
  t.deepEqual(answer, ERROR);
  t.regex(converter.reports.join(), /did not offer to wait/);
});

test('an unknown command, no command and no path are errors, their content is skipped', async (t) => {
  const { answer, converter } = await converse([
    request('merge', 'a', pattern(100_000)),
    Buffer.concat([listOf('pathname=b'), contentOf('x')]),
    Buffer.concat([listOf('command=clean'), contentOf('x')]),
    Buffer.concat([listOf('command=smudge'), contentOf('x')]),
    Buffer.concat([FLUSH, contentOf('x')]),
    request('clean', 'next', 'y'),
  ]);
  t.deepEqual(answer, Buffer.concat([ERROR, ERROR, ERROR, ERROR, ERROR, converted('y')]));
  t.is(converter.reports.length, 5);
  t.regex(converter.reports[0]!, /^a: .*merge/);
  t.regex(converter.reports[2]!, /^-: .*without a pathname/);
});

test('malformed packets inside a request end the session and abort the job', async (t) => {
  const { output } = fakeOutput();
  const converter = new FakeConverter();
  const stream = Buffer.concat([listOf('command=clean', 'pathname=a'), Buffer.from('0005xhello')]);
  await t.throwsAsync(runSession(fakeInput(stream), output, converter), {
    code: 'PROTOCOL',
    message: /"hell"/,
  });
  t.deepEqual(converter.events, ['clean a', 'abort a']);
  t.deepEqual(converter.reports, []);
});

test('a recorded session cut at any byte ends cleanly between requests and by EndOfInput elsewhere', async (t) => {
  const requests = [
    request('clean', 'a', 'content'),
    request('smudge', 'b', 'pointer', 'can-delay=1'),
    LIST,
    request('smudge', 'b', ''),
    request('clean', 'fail-begin', 'content'),
    request('smudge', 'fail-advance', 'content'),
    LIST,
  ];
  const whole = Buffer.concat(requests);
  const ends = new Set(requests.map((_, index) => Buffer.concat(requests.slice(0, index)).length));
  for (let length = 0; length < whole.length; length++) {
    const { output } = fakeOutput();
    const converter = new FakeConverter(length % 2 === 0);
    const session = runSession(fakeInput(whole.subarray(0, length), [1 + (length % 7)]), output, converter);
    if (ends.has(length)) {
      t.is(await session, 'eof');
    } else {
      await t.throwsAsync(session, { instanceOf: EndOfInput }, `cut at ${length}`);
    }
    t.false(converter.reports.some((line) => line.includes('the input ended')));
  }
});

test('a job whose content is cut is aborted and never finished', async (t) => {
  const whole = request('clean', 'a', 'content');
  const head = listOf('command=clean', 'pathname=a').length;
  for (let length = head; length < whole.length; length++) {
    const converter = new FakeConverter();
    const session = runSession(fakeInput(whole.subarray(0, length)), fakeOutput().output, converter);
    await t.throwsAsync(session, { instanceOf: EndOfInput });
    t.deepEqual(converter.events, ['clean a', 'abort a']);
  }
});

test('a closed output ends the session, whatever the converter makes of it', async (t) => {
  for (const path of ['generate=5000000', 'a', 'fail-late', 'fail-begin']) {
    const { output } = fakeOutput([10, 'EPIPE']);
    const converter = new FakeConverter();
    await t.throwsAsync(runSession(fakeInput(request('smudge', path, 'x')), output, converter), {
      instanceOf: OutputClosed,
    });
    t.is(converter.events.includes(`dispose ${path}`), path !== 'fail-begin');
    t.is(converter.reports.length, path === 'fail-begin' ? 1 : 0);
  }
});

test('an output that fails otherwise ends the session by that error', async (t) => {
  const { output } = fakeOutput(['EIO']);
  await t.throwsAsync(runSession(fakeInput(request('clean', 'a', 'x')), output, new FakeConverter()), {
    code: 'EIO',
  });
});

// Delay

test('delayed paths are listed, asked for again and delivered, until the list is empty', async (t) => {
  const paths: Buffer[] = ['a', 'b\n', 'async'].map((path) => Buffer.from(path));
  paths.push(Buffer.of(0xff, 0x3d));
  const { answer } = await converse([
    ...paths.map((path) => request('smudge', path, path, 'can-delay=1')),
    LIST,
    request('smudge', paths[1]!, ''),
    request('smudge', paths[0]!, ''),
    LIST,
    request('smudge', paths[2]!, ''),
    request('smudge', paths[3]!, ''),
    LIST,
    LIST,
  ]);
  const listed = (...some: Buffer[]) =>
    Buffer.concat([listOf(...some.map((path) => pathLine(path))), SUCCESS]);
  t.deepEqual(
    answer,
    Buffer.concat([
      ...paths.map(() => DELAYED),
      listed(paths[0]!, paths[1]!),
      converted(paths[1]!),
      converted(paths[0]!),
      listed(paths[2]!, paths[3]!),
      converted(paths[2]!),
      converted(paths[3]!),
      listed(),
      listed(),
    ]),
  );
});

test('an empty smudge of a path that was not delayed, or was delivered, is an empty file', async (t) => {
  const { answer } = await converse([
    request('smudge', 'a', ''),
    request('smudge', 'a', 'pointer', 'can-delay=1'),
    LIST,
    request('smudge', 'a', ''),
    request('smudge', 'a', ''),
  ]);
  const listed = Buffer.concat([listOf('pathname=a'), SUCCESS]);
  t.deepEqual(answer, Buffer.concat([converted(''), DELAYED, listed, converted('pointer'), converted('')]));
});

test('a smudge with content of a path that is still delayed is a request of its own', async (t) => {
  const { answer, converter } = await converse([
    request('smudge', 'a', 'pointer', 'can-delay=1'),
    request('smudge', 'a', 'other'),
    request('smudge', 'a', ''),
  ]);
  t.deepEqual(answer, Buffer.concat([DELAYED, converted('other'), converted('pointer')]));
  t.is(converter.smudged.length, 2);
});

test('a list that fails is empty and says error, a delivery that fails says error alone', async (t) => {
  const { answer, converter } = await converse([
    request('smudge', 'fail-deliver', 'x', 'can-delay=1'),
    LIST,
    request('smudge', 'fail-deliver', ''),
    request('smudge', 'b', 'fail-available', 'can-delay=1'),
    LIST,
    request('clean', 'next', 'x'),
  ]);
  const listed = Buffer.concat([listOf('pathname=fail-deliver'), SUCCESS]);
  t.deepEqual(answer, Buffer.concat([DELAYED, listed, ERROR, DELAYED, FLUSH, ERROR, converted('x')]));
  t.deepEqual(converter.reports, ['fail-deliver: cannot deliver', '-: the network is gone']);
});

test('the delay queue lists each path once, first delayed first, and forgets what was delivered', (t) => {
  const queue = new DelayQueue<number>();
  const [a, b, c] = [Buffer.from('a'), Buffer.of(0xc3), Buffer.of(0xc3, 0x83)];
  queue.add(a, 1);
  queue.add(b, 2);
  queue.add(c, 3);
  t.is(queue.waiting, 3);
  t.deepEqual([...queue.values()], [1, 2, 3]);
  t.deepEqual(
    queue.list((value) => value > 1, 1),
    [b],
  );
  t.deepEqual(queue.list(), [a, c]);
  t.deepEqual(queue.list(), []);
  t.is(queue.waiting, 0);
  t.true(queue.has(Buffer.of(0xc3)));
  t.is(queue.deliver(Buffer.of(0xc3)), 2);
  t.is(queue.deliver(b), undefined);
  t.false(queue.has(b));
  t.true(queue.has(c));
});

test('a path delayed anew waits anew, with its new value', (t) => {
  const queue = new DelayQueue<number>();
  queue.add(Buffer.from('a'), 1);
  queue.add(Buffer.from('b'), 2);
  queue.add(Buffer.from('a'), 3);
  t.deepEqual([...queue.values()], [2, 3]);
  t.is(queue.list().length, 2);
  queue.add(Buffer.from('a'), 4);
  t.deepEqual(queue.list(), [Buffer.from('a')]);
  t.is(queue.deliver(Buffer.from('a')), 4);
  t.is(queue.waiting, 0);
});

test('a path that was not listed yet can be delivered, and is not listed then', (t) => {
  const queue = new DelayQueue<number>();
  queue.add(Buffer.from('a'), 1);
  t.is(queue.deliver(Buffer.from('a')), 1);
  t.deepEqual(queue.list(), []);
});

// Trace

test('a trace names each request and its outcome on one line each', async (t) => {
  const path = join(temporaryDirectory(t), 'trace');
  const fd = openSync(path, 'a');
  const requests = [
    request('clean', 'a\nb', 'x'),
    request('smudge', 'fail-late', 'x', 'ref=refs/heads/main', 'blob=12'),
    request('smudge', 'b', 'x', 'can-delay=1'),
    LIST,
    FLUSH,
    FLUSH,
  ];
  await runSession(fakeInput(Buffer.concat(requests)), fakeOutput().output, new FakeConverter(), traceTo(fd));
  closeSync(fd);
  const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
  t.true(lines.every((line) => /^git2db-filter\[\d+\] \+\d+\.\dms /.test(line)));
  const events = lines.map((line) => line.replace(/^\S+ \S+ /, ''));
  t.deepEqual(
    [0, 2, 4, 6, 8].map((index) => events[index]),
    [
      'clean "a\\nb"',
      'smudge fail-late ref=refs/heads/main blob=12',
      'smudge b can-delay',
      'list_available_blobs',
      'no command',
    ],
  );
  t.deepEqual(
    [1, 3, 5, 7, 9].map((index) => events[index]!.split(':')[0]),
    ['success', 'error', 'delayed', 'success', 'error'],
  );
  t.is(events[1], 'success: 9 bytes in, 36 out, framed');
  t.is(events.length, 10);
});

test('a trace that cannot be written does not disturb', (t) => {
  const path = join(temporaryDirectory(t), 'trace');
  closeSync(openSync(path, 'w'));
  const fd = openSync(path, 'r');
  t.notThrows(() => traceTo(fd)('event'));
  closeSync(fd);
});

test('a path is shown as it is, or quoted where it would mislead', (t) => {
  t.is(quotePath(Buffer.from('dir/plain name é.bin')), 'dir/plain name é.bin');
  t.is(quotePath(Buffer.from('a\tb\nc"d\\e\r')), '"a\\tb\\nc\\"d\\\\e\\r"');
  t.is(quotePath(Buffer.of(0x61, 0xff, 0x1b)), '"a\\377\\033"');
  t.is(quotePath(Buffer.from('')), '""');
  t.is(quotePath(Buffer.from('gpj.\u202eexe')), '"gpj.\\342\\200\\256exe"');
});

// Real pipes

test('a client that writes 300 MB before it reads anything is served', async (t) => {
  const piece = pattern(1 << 20);
  const hash = createHash('sha256');
  const pieces = Array.from({ length: 300 }, (_, i) => {
    const bytes = i % 3 === 0 ? piece.subarray(i) : piece;
    hash.update(bytes);
    return bytes;
  });
  const size = pieces.reduce((sum, bytes) => sum + bytes.length, 0);
  const client = await FilterClient.start(t, FAKE_FILTER);
  const answer = await client.clean('digest', pieces);
  t.deepEqual(answer.content.toString(), `${size} ${hash.digest('hex')}`);
  t.deepEqual(await client.end(), { code: 0, signal: null, stderr: '' });
});

for (const mode of ['overlay', 'beside']) {
  test(`packets of random sizes through real pipes, ${mode}`, async (t) => {
    const client = await FilterClient.start(t, [...FAKE_FILTER, mode]);
    t.deepEqual(client.granted, ['clean', 'smudge', 'delay']);
    let seed = 12_345;
    const random = (limit: number) => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return (seed >>> 8) % limit;
    };
    for (const size of [0, 1, 65_516, 65_517, 1_000_000, 5_000_000]) {
      const content = pattern(size);
      const packetSize = () => 1 + random(random(2) ? 65_516 : 200);
      t.true((await client.clean(`file ${size}`, content, { packetSize })).content.equals(content));
      t.true((await client.smudge(`async ${size}`, content, { packetSize })).content.equals(content));
    }
    t.is((await client.end()).code, 0);
  });
}

test('a large smudge is read as it is made', async (t) => {
  const size = 100_000_000;
  const expected = createHash('sha256');
  for (let at = 0; at < size; at += 65_536) expected.update(pattern(65_536).subarray(0, size - at));
  const client = await FilterClient.start(t, FAKE_FILTER);
  const actual = createHash('sha256');
  const answer = await client.smudge(`generate=${size}`, 'x', { onContent: (piece) => actual.update(piece) });
  t.is(answer.status, 'success');
  t.is(actual.digest('hex'), expected.digest('hex'));
  t.is((await client.end()).code, 0);
});

test('delay over real pipes, and a late error, leave the process usable', async (t) => {
  const client = await FilterClient.start(t, FAKE_FILTER);
  const paths = Array.from({ length: 5 }, (_, i) => Buffer.from([0xff, i, 0x0a]));
  for (const path of paths) {
    t.is((await client.smudge(path, path, { canDelay: true, blob: 'ab' })).status, 'delayed');
  }
  const late = await client.smudge('fail-late', 'x');
  t.is(late.firstStatus, 'success');
  t.is(late.status, 'error');
  const delivered: Buffer[] = [];
  for (;;) {
    const available = await client.listAvailable();
    t.is(available.status, 'success');
    if (available.paths.length === 0) break;
    for (const path of available.paths) delivered.push((await client.smudge(path, '')).content);
  }
  t.deepEqual(delivered, paths);
  t.is((await client.end()).code, 0);
});

test('a client that stops reading in the middle of an answer ends the filter quietly', async (t) => {
  const client = await FilterClient.start(t, FAKE_FILTER);
  await client.send(listOf('command=smudge', 'pathname=generate=50000000'), contentOf('x'));
  t.deepEqual((await client.readList()).join(), 'status=success');
  client.closeOutput();
  t.deepEqual(await client.end(), { code: 0, signal: null, stderr: '' });
});

test('a client that leaves inside a request ends the filter with one line', async (t) => {
  const client = await FilterClient.start(t, FAKE_FILTER);
  await client.send(listOf('command=clean', 'pathname=a'), contentOf('x').subarray(0, -1));
  const exit = await client.end();
  t.is(exit.code, 1);
  t.regex(exit.stderr, /^fake-filter: EndOfInput: .*\n$/);
});

test('the client notices bytes on stdout that no packet has announced', async (t) => {
  const script =
    "process.stdout.write('0016git-filter-server\\n000eversion=2\\n0000warning: oops\\n'); process.stdin.resume()";
  await t.throwsAsync(FilterClient.start(t, [process.execPath, '-e', script]), {
    message: /not a packet: "warn/,
  });
  const late = "setTimeout(() => process.stdout.write('0000'), 10)";
  const client = FilterClient.spawn(t, [process.execPath, '-e', late]);
  await t.throwsAsync(client.end(), { message: /unasked output: "0000"/ });
});

/** Payloads of the packets up to the next flush. */
function payloads(stream: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let at = 0; ; ) {
    const length = Number.parseInt(stream.toString('latin1', at, at + 4), 16);
    if (length === 0) return found;
    found.push(stream.subarray(at + 4, at + length));
    at += length;
  }
}
