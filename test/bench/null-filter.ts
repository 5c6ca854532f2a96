#!/usr/bin/env node
/**
 * The floor for a filter process written in Node: it speaks the protocol and does nothing else.
 * Clean reads the content and answers `null <length>`; smudge answers that many zeros.
 */
import { readSync, writeSync } from 'node:fs';

const HEADER = 4;
const MAX_PAYLOAD = 65516;

const input = Buffer.allocUnsafe(1 << 20);
let start = 0;
let end = 0;

/** Makes `count` bytes available at `start`; ends the process at end of file. */
function need(count: number): void {
  if (end - start >= count) return;
  input.copyWithin(0, start, end);
  end -= start;
  start = 0;
  while (end < count) {
    const got = readSync(0, input, end, input.length - end, null);
    if (got === 0) process.exit(0);
    end += got;
  }
}

/** The payload of the next packet, undefined for a flush; valid until the next call. */
function packet(): Buffer | undefined {
  need(HEADER);
  const length = Number.parseInt(input.toString('latin1', start, start + HEADER), 16);
  start += HEADER;
  if (length < HEADER) return undefined;
  need(length - HEADER);
  start += length - HEADER;
  return input.subarray(start - (length - HEADER), start);
}

function list(): string[] {
  const lines: string[] = [];
  for (let line = packet(); line !== undefined; line = packet()) lines.push(line.toString().trimEnd());
  return lines;
}

function write(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(1, bytes, at);
}

const header = (payload: number) => (payload + HEADER).toString(16).padStart(HEADER, '0');
const FLUSH = '0000';
const text = (...lines: string[]) => lines.map((line) => `${header(line.length)}${line}`).join('') + FLUSH;
const zeros = Buffer.alloc(HEADER + MAX_PAYLOAD);

list();
write(Buffer.from(text('git-filter-server\n', 'version=2\n')));
list();
write(Buffer.from(text('capability=clean\n', 'capability=smudge\n')));
for (;;) {
  const cleans = list().includes('command=clean');
  let length = 0;
  let head = '';
  for (let part = packet(); part !== undefined; part = packet()) {
    if (length === 0) head = part.toString('latin1', 0, 40);
    length += part.length;
  }
  write(Buffer.from(text('status=success\n')));
  if (cleans) write(Buffer.from(text(`null ${length}\n`)));
  else {
    for (let left = Number(/^null (\d+)/.exec(head)?.[1] ?? 0); left > 0; ) {
      const size = Math.min(left, MAX_PAYLOAD);
      zeros.write(header(size), 'latin1');
      write(zeros.subarray(0, HEADER + size));
      left -= size;
    }
    write(Buffer.from(FLUSH));
  }
  write(Buffer.from(FLUSH));
}
