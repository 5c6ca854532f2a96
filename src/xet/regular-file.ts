/**
 * Files of ours are ordinary ones. Whatever else has the name of one is not opened as if it were: a pipe would make
 * us wait for a writer for ever, and a device does as it likes.
 */
import { appendFileSync, closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { type ErrorCode, errnoOf, FormatError } from './errors.ts';

/** The descriptor is the caller's. Throws the errno of open, or `code` for what is no regular file. */
export function openRegular(path: string, code: ErrorCode, access: number = constants.O_RDONLY): number {
  let fd: number;
  try {
    // For a regular file O_NONBLOCK changes nothing.
    fd = openSync(path, access | constants.O_NONBLOCK);
  } catch (error) {
    // ENXIO: a socket, or a device that is not there.
    if (errnoOf(error) === 'ENXIO' || errnoOf(error) === 'EISDIR') throw irregular(path, code);
    throw error;
  }
  try {
    if (!fstatSync(fd).isFile()) throw irregular(path, code);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return fd;
}

/** All of the file at `path`. Throws as `openRegular`. */
export function readRegular(path: string, code: ErrorCode): Buffer {
  const fd = openRegular(path, code);
  try {
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Adds to the file at `path`, which is made where there is none. Throws as `openRegular`. */
export function appendRegular(path: string, code: ErrorCode, bytes: string | Uint8Array): void {
  const fd = openRegular(path, code, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT);
  try {
    appendFileSync(fd, bytes);
  } finally {
    closeSync(fd);
  }
}

function irregular(path: string, code: ErrorCode): FormatError {
  return new FormatError(code, `${path} is no regular file: remove it`, 0);
}
