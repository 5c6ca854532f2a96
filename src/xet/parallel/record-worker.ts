/** A thread that hashes the records of xorbs; `record-thread.ts` is its other end. */
import { parentPort } from 'node:worker_threads';
import { hashRecords } from '../xorb/record-hashes.ts';
import type { RecordAnswer, RecordQuestion } from './record-thread.ts';

const port = parentPort!;

port.on('message', ({ id, buffer, places }: RecordQuestion) => {
  let hashes: Uint8Array | undefined;
  try {
    hashes = hashRecords(new Uint8Array(buffer), places, (_, error) => error);
  } catch {
    // Whoever asked finds out what is wrong.
  }
  port.postMessage({ id, buffer, hashes } satisfies RecordAnswer, [buffer]);
});
