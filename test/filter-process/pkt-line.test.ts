import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { type ContentSink, EndOfInput, PktInput, type Room } from '../../src/filter-process/pkt-input.ts';
import {
  encodeHeader,
  encodeText,
  MAX_PACKET,
  MAX_PAYLOAD,
  parseLength,
} from '../../src/filter-process/pkt-line.ts';
import { OutputClosed } from '../../src/filter-process/pkt-output.ts';
import { Collector, pattern } from '../helpers/fake-converter.ts';
import { fakeInput, fakeOutput, temporaryDirectory } from '../helpers/fake-streams.ts';
import { contentOf, FLUSH, listOf, packet } from '../helpers/filter-client.ts';

const lengthIs = test.macro({
  exec(t, digits: string, expected: number) {
    t.is(parseLength(Buffer.from(`x${digits}`), 1), expected);
  },
  title: (_, digits, expected) => `the length field ${digits} means ${expected}`,
});
test(lengthIs, '0000', 0);
test(lengthIs, '0001', 1);
test(lengthIs, '0002', 2);
test(lengthIs, '0004', 4);
test(lengthIs, 'fff0', 65520);
test(lengthIs, 'FFF0', 65520);
test(lengthIs, 'aBcD', 0xabcd);

const lengthFails = test.macro({
  exec(t, field: string) {
    const error = t.throws(() => parseLength(Buffer.from(field, 'latin1'), 0, 77), { code: 'PROTOCOL' });
    t.like(error, { name: 'FormatError', offset: 77 });
    t.regex(error!.message, /byte 77/);
  },
  title: (_, field) => `the length field ${JSON.stringify(field)} is refused with its place`,
});
for (const field of [
  '0003',
  'fff1',
  'ffff',
  'warn',
  '00g0',
  ' 010',
  '-001',
  '0x10',
  '/000',
  ':000',
  '`000',
  '\xb1\xb0\xb0\xb0',
  '000',
  '',
])
  test(lengthFails, field);

test('every payload length is written in four lower-case digits and read back', (t) => {
  for (let length = 1; length <= MAX_PAYLOAD; length++) {
    const header = encodeHeader(length);
    if (parseLength(header, 0) !== length + 4 || !/^[0-9a-f]{4}$/.test(header.toString()))
      t.fail(`${length}`);
  }
  t.is(encodeHeader(MAX_PAYLOAD).toString(), 'fff0');
});

test('a text line gets one newline', (t) => {
  t.is(encodeText('key=value').toString(), '000ekey=value\n');
  t.is(encodeText('é').toString(), '0007é\n');
  t.is(encodeText('').toString(), '0005\n');
  t.deepEqual(encodeText(Buffer.of(0xff, 0x0a)), Buffer.of(0x30, 0x30, 0x30, 0x37, 0xff, 0x0a, 0x0a));
});

test('a line that does not fit into one packet is refused', (t) => {
  t.is(encodeText('x'.repeat(MAX_PAYLOAD - 1)).length, MAX_PACKET);
  t.throws(() => encodeText('x'.repeat(MAX_PAYLOAD)), { code: 'PROTOCOL' });
});

test('a list ends at its flush, and the next one follows', (t) => {
  const input = fakeInput(Buffer.concat([listOf('a=1', 'b='), FLUSH, listOf('c')]), [3]);
  t.deepEqual(texts(input.readList()), ['a=1', 'b=']);
  t.deepEqual(texts(input.readList()), []);
  t.deepEqual(texts(input.readList()), ['c']);
  t.is(input.readList(), undefined);
  t.is(input.failure, undefined);
});

test('a line may have no newline, two newlines, or no byte at all', (t) => {
  const input = fakeInput(Buffer.concat([packet('a'), packet('b\n\n'), packet('\n'), packet(''), FLUSH]));
  t.deepEqual(texts(input.readList()), ['a', 'b\n', '', '']);
});

test("other protocols' end packets end a list and a content section too", (t) => {
  for (const end of ['0001', '0002']) {
    const input = fakeInput(Buffer.from(`0006a\n${end}0005x${end}0006b\n0000`));
    t.deepEqual(texts(input.readList()), ['a']);
    t.is(input.drainContent(), 1);
    t.deepEqual(texts(input.readList()), ['b']);
  }
});

test('lines outlive the reading of what follows', (t) => {
  const input = fakeInput(Buffer.concat([listOf('first'), listOf('x'.repeat(60_000))]), [11, 70_000]);
  const first = input.readList();
  input.readList();
  t.deepEqual(texts(first), ['first']);
});

test('a list above 1 MiB is refused, be it of long lines or of empty ones', (t) => {
  const fits = Buffer.concat([...Array(16).fill(packet('x'.repeat(65_500))), FLUSH]);
  t.is((fakeInput(fits).readList() as string[]).length, 16);
  for (const line of [packet('x'.repeat(65_500)), packet('')]) {
    const many = Buffer.concat(Array(Math.ceil((1 << 20) / line.length) + 1).fill(line));
    const input = fakeInput(Buffer.concat([many, FLUSH]));
    t.throws(() => input.readList(), { code: 'PROTOCOL', message: /longer than 1048576 bytes/ });
    t.truthy(input.failure);
  }
});

test('a payload of 65516 bytes is read, one of 65517 is refused', (t) => {
  for (const overlay of [true, false]) {
    for (const size of [MAX_PAYLOAD - 1, MAX_PAYLOAD]) {
      const content = pattern(size);
      t.deepEqual(received(fakeInput(contentOf(content)), overlay), content);
    }
    const input = fakeInput(contentOf(pattern(MAX_PAYLOAD + 1), MAX_PAYLOAD + 1));
    t.throws(() => received(input, overlay), { code: 'PROTOCOL', message: /65521/ });
    t.truthy(input.failure);
  }
  t.throws(() => fakeInput(packet('x'.repeat(MAX_PAYLOAD + 1))).readList(), { code: 'PROTOCOL' });
});

test('an empty packet is an empty chunk of content', (t) => {
  const section = Buffer.concat([
    packet(''),
    packet('ab'),
    packet(''),
    packet(''),
    packet('c'),
    packet(''),
    FLUSH,
  ]);
  for (const overlay of [true, false]) {
    for (const slices of [[1], [4], [65520]]) {
      t.is(received(fakeInput(section, slices), overlay).toString(), 'abc');
    }
  }
});

test('empty content is recognised and consumed, other content is left alone', (t) => {
  for (const slices of [[1], [65520]]) {
    const input = fakeInput(
      Buffer.concat([FLUSH, packet(''), FLUSH, packet(''), contentOf('ab', 1), listOf('end')]),
      slices,
    );
    t.true(input.takeEmptyContent());
    t.true(input.takeEmptyContent());
    t.false(input.takeEmptyContent());
    t.is(received(input, true).toString(), 'ab');
    t.deepEqual(texts(input.readList()), ['end']);
    t.throws(() => input.takeEmptyContent(), { instanceOf: EndOfInput });
  }
});

/** Lists and content sections in packets of any size, and how the reads are sliced. */
const streams = fc.record({
  sections: fc.array(
    fc.array(
      fc.oneof(
        { weight: 4, arbitrary: fc.integer({ min: 0, max: 9 }) },
        { weight: 2, arbitrary: fc.integer({ min: 0, max: MAX_PAYLOAD }) },
        { weight: 2, arbitrary: fc.integer({ min: MAX_PAYLOAD - 3, max: MAX_PAYLOAD }) },
      ),
      { maxLength: 6 },
    ),
    { minLength: 1, maxLength: 3 },
  ),
  slices: fc.array(
    fc.oneof(
      fc.integer({ min: 1, max: 9 }),
      fc.integer({ min: 1, max: 70_000 }),
      fc.integer({ min: 65_515, max: 65_525 }),
      fc.constant('EINTR'),
    ),
    { minLength: 1, maxLength: 12 },
  ),
  overlay: fc.boolean(),
  start: fc.integer({ min: 0, max: 5 }),
});

test('any packet sizes and any slicing of the reads give the same lists and content', (t) => {
  fc.assert(
    fc.property(streams, ({ sections, slices, overlay, start }) => {
      const contents = sections.map((sizes) => pattern(sizes.reduce((sum, size) => sum + size, 0)));
      const stream = sections.map((sizes, index) => {
        let at = 0;
        const packets = sizes.map((size) => {
          at += size;
          return packet(contents[index]!.subarray(at - size, at));
        });
        return Buffer.concat([listOf(`section=${index}`), ...packets, FLUSH]);
      });
      const input = fakeInput(Buffer.concat(stream), [...slices, 65_520]);
      for (const [index, content] of contents.entries()) {
        if (texts(input.readList()).join() !== `section=${index}`) return false;
        const sink = new PlainSink(content.length, start, overlay);
        input.readContent(sink);
        if (!sink.content().equals(content) || sink.advances.includes(0)) return false;
      }
      return input.readList() === undefined && input.failure === undefined;
    }),
    { numRuns: 150 },
  );
  t.pass();
});

test('without leave the reader touches nothing before the room, with it the bytes are put back', (t) => {
  const sizes = [10, MAX_PAYLOAD, 3, 1, 65_000, MAX_PAYLOAD];
  const section = Buffer.concat([...sizes.map((size) => packet(Buffer.alloc(size, 0xaa))), FLUSH]);
  for (const overlay of [true, false]) {
    let before = 0;
    const sink = new PlainSink(
      sizes.reduce((sum, size) => sum + size),
      8,
      overlay,
    );
    const input = fakeInput(section, [65_520, 7, 2, 40_000], (views) => {
      if (views.some((view) => view.buffer === sink.bytes.buffer && view.byteOffset < sink.end)) before++;
    });
    input.readContent(sink);
    t.is(before > 0, overlay);
    t.true(sink.content().every((byte) => byte === 0xaa));
    t.deepEqual(sink.bytes.subarray(0, 8), new Uint8Array(8));
  }
});

test('one full packet costs one read', (t) => {
  const section = contentOf(pattern(20 * MAX_PAYLOAD));
  for (const overlay of [true, false]) {
    let reads = 0;
    const input = fakeInput(section, [MAX_PACKET], () => reads++);
    input.readContent(new PlainSink(20 * MAX_PAYLOAD, 4, overlay));
    t.is(reads, 21);
  }
});

test('after an error of the sink the rest of the content can be skipped', (t) => {
  for (const method of ['room', 'advance'] as const) {
    for (const overlay of [true, false]) {
      for (const slices of [[5], [1000], [70_000]]) {
        for (let failing = 0; failing < 5; failing++) {
          const input = fakeInput(
            Buffer.concat([listOf('a'), contentOf(pattern(1000), 200), listOf('after')]),
            slices,
          );
          input.readList();
          const sink = new PlainSink(1000, 4, overlay);
          let calls = 0;
          const original = sink[method].bind(sink) as (count: number) => Room;
          Object.assign(sink, {
            [method]: (count: number) => {
              if (calls++ === failing) throw new Error('disk full');
              return original(count);
            },
          });
          t.throws(() => input.readContent(sink as ContentSink), { message: 'disk full' });
          t.is(input.failure, undefined);
          t.is(input.drainContent() + sink.total, method === 'room' ? 1000 : 800);
          t.deepEqual(texts(input.readList()), ['after']);
        }
      }
    }
  }
});

test('a stream cut anywhere inside is an EndOfInput that names the place', (t) => {
  const list = listOf('command=clean', 'pathname=a');
  const whole = Buffer.concat([list, contentOf('some content', 5)]);
  for (const overlay of [true, false]) {
    for (const slices of [[1], [3], [100]]) {
      for (let length = 1; length < whole.length; length++) {
        const input = fakeInput(whole.subarray(0, length), slices);
        const error = t.throws(
          () => {
            input.readList();
            received(input, overlay);
          },
          { instanceOf: EndOfInput, code: 'PROTOCOL' },
        );
        t.is(error.offset, length);
        t.is(input.failure?.error, error);
      }
    }
  }
});

test('a peer that vanishes by ECONNRESET or EOF is the end of the stream, EIO is an error', (t) => {
  for (const code of ['ECONNRESET', 'EOF']) {
    t.is(fakeInput(Buffer.alloc(0), [code]).readList(), undefined);
  }
  const input = fakeInput(listOf('a'), [3, 'EIO']);
  t.throws(() => input.readList(), { code: 'EIO' });
  t.truthy(input.failure);
});

test('a call that would block, or is interrupted, is made again', (t) => {
  const input = fakeInput(listOf('abcd'), ['EAGAIN', 5, 'EAGAIN', 'EAGAIN', 2, 'EINTR', 100]);
  t.deepEqual(texts(input.readList()), ['abcd']);
  const { output, bytes } = fakeOutput(['EAGAIN', 5, 'EINTR', 'EAGAIN', 100]);
  output.list(['abcd']);
  output.sync();
  t.deepEqual(bytes(), listOf('abcd'));
});

test('a non-blocking pipe is waited for', async (t) => {
  const path = join(temporaryDirectory(t), 'fifo');
  execFileSync('mkfifo', [path]);
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  t.teardown(() => closeSync(fd));
  // Keeps the writing side open: without a writer a read would say end, not EAGAIN.
  const keep = openSync(path, constants.O_WRONLY);
  const writer = spawn('sh', ['-c', 'sleep 0.2; printf 00; sleep 0.1; printf 06a; printf x0000'], {
    stdio: ['ignore', keep, 'inherit'],
  });
  closeSync(keep);
  const input = new PktInput(fd);
  t.deepEqual(texts(input.readList()), ['ax']);
  t.is(input.readList(), undefined);
  await once(writer, 'close');
});

test('lists are written with their flush when they are synced, in one call', (t) => {
  const { output, calls, bytes } = fakeOutput();
  output.list(['status=success']);
  output.list([Buffer.of(0xff), '']);
  output.flush();
  t.is(calls.length, 0);
  t.is(output.written, 0);
  output.sync();
  output.sync();
  t.is(calls.length, 1);
  t.is(bytes().toString('latin1'), '0013status=success\n00000006\xff\n0005\n00000000');
  t.is(output.written, bytes().length);
});

test('any content in any slices arrives whole, in full packets, however short the writes are', (t) => {
  const slice = fc.oneof(
    fc.integer({ min: 0, max: 20 }),
    fc.integer({ min: 0, max: 200_000 }),
    fc.integer({ min: MAX_PAYLOAD - 2, max: MAX_PAYLOAD + 2 }),
  );
  const step = fc.oneof({ weight: 9, arbitrary: slice }, { weight: 1, arbitrary: fc.constant('sync') });
  const limits = fc.array(
    fc.oneof(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 500_000 }), fc.constant('EINTR')),
    { maxLength: 6 },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), limits, (steps, shortWrites) => {
      const { output, bytes } = fakeOutput([...shortWrites, Number.POSITIVE_INFINITY]);
      const sections: Buffer[] = [];
      let section: Buffer[] = [];
      for (const size of [...steps, 'sync']) {
        if (size === 'sync') {
          output.sync();
          sections.push(Buffer.concat(section));
          for (const slice of section) slice.fill(0xee);
          section = [];
        } else {
          section.push(pattern(size as number));
          output.content(section.at(-1)!);
        }
      }
      output.end();
      output.sync();
      const expected = sections.flatMap((content) => [contentOf(content).subarray(0, -4)]);
      return bytes().equals(Buffer.concat([...expected, FLUSH])) && output.written === bytes().length;
    }),
    { numRuns: 100 },
  );
  t.pass();
});

test('content is written in batches of at least 1 MiB and never copied', (t) => {
  const { output, calls } = fakeOutput();
  const content = pattern(10_000_000);
  for (let at = 0; at < content.length; at += 70_000) output.content(content.subarray(at, at + 70_000));
  output.end();
  output.sync();
  t.is(calls.length, 9);
  for (const { size, foreign } of calls.slice(0, -1)) {
    t.true(size >= 1 << 20 && size < (1 << 20) + MAX_PACKET + 70_000);
    t.is(foreign(content.buffer), 17 * 4);
  }
});

test('many tiny slices are written without piling up, in full system calls', (t) => {
  const { output, calls, bytes } = fakeOutput();
  const byte = Buffer.of(7);
  for (let i = 0; i < 5000; i++) output.content(byte);
  t.is(calls.length, 4);
  output.end();
  output.sync();
  t.true(calls.every(({ views }) => views <= 1024));
  const input = fakeInput(bytes());
  t.is(input.drainContent(), 5000);
});

test('a list of more lines than one system call takes is written whole', (t) => {
  const { output, calls, bytes } = fakeOutput([100, 5, Number.POSITIVE_INFINITY]);
  const lines = Array.from({ length: 5000 }, (_, i) => `line ${i}`);
  output.list(lines);
  output.sync();
  t.true(calls.every(({ views }) => views <= 1024));
  t.deepEqual(texts(fakeInput(bytes()).readList()), lines);
});

test('what was discarded is not written', (t) => {
  const { output, bytes } = fakeOutput();
  output.list(['status=success']);
  output.content(Buffer.from('never'));
  output.discard();
  output.list(['status=error']);
  output.sync();
  t.is(bytes().toString(), '0011status=error\n0000');
});

test('a closed pipe is OutputClosed, and stays so; another failure is itself', (t) => {
  for (const code of ['EPIPE', 'ECONNRESET']) {
    const { output } = fakeOutput([5, code, Number.POSITIVE_INFINITY]);
    output.list(['status=success']);
    t.throws(() => output.sync(), { instanceOf: OutputClosed });
    output.flush();
    t.throws(() => output.sync(), { instanceOf: OutputClosed });
    t.true(output.failure?.error instanceof OutputClosed);
    t.is(output.written, 5);
  }
  const { output } = fakeOutput(['ENOSPC']);
  output.flush();
  t.throws(() => output.sync(), { code: 'ENOSPC' });
});

/** All content in one piece of memory; `start` bytes before it are not the reader's. */
class PlainSink implements ContentSink {
  readonly bytes: Uint8Array;
  readonly advances: number[] = [];
  readonly #start: number;
  readonly #overlay: boolean;
  total = 0;

  constructor(size: number, start: number, overlay: boolean) {
    this.bytes = new Uint8Array(start + size + MAX_PACKET);
    this.#start = start;
    this.#overlay = overlay;
  }

  get end(): number {
    return this.#start + this.total;
  }

  room(): Room {
    return { bytes: this.bytes, offset: this.end, overlay: this.#overlay };
  }

  advance(count: number): void {
    this.advances.push(count);
    this.total += count;
  }

  content(): Buffer {
    return Buffer.from(this.bytes.subarray(this.#start, this.end));
  }
}

/** The content section that comes next, read into shared memory. */
function received(input: PktInput, overlay: boolean): Buffer {
  const pieces: Buffer[] = [];
  const collector = new Collector(overlay, pieces);
  input.readContent(collector);
  collector.flush();
  return Buffer.concat(pieces);
}

function texts(lines: string[] | undefined): string[] {
  if (lines === undefined) throw new Error('eof');
  return lines;
}
