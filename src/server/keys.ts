/**
 * The server's secret, and the keys made from it: one for each purpose, so that a signature for one thing
 * can never be shown as one for another (HKDF, RFC 5869).
 */
import { createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';
import { closeSync, linkSync, openSync, readFileSync, statSync, unlinkSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { makeDirectories } from '../make-directories.ts';
import { errnoOf, Git2dbError, messageOf } from '../xet/errors.ts';

export const MIN_KEY_SIZE = 32;
const MAX_KEY_FILE = 4096;

export interface ServerKeys {
  readonly tokens: Uint8Array;
  readonly dataUrls: Uint8Array;
  readonly dedup: Uint8Array;
}

export function deriveKeys(secret: Uint8Array): ServerKeys {
  if (secret.length < MIN_KEY_SIZE) {
    throw new Git2dbError(
      'INVALID_CONFIG',
      `the key of a server has at least ${MIN_KEY_SIZE} bytes, this one has ${secret.length}`,
    );
  }
  const derive = (purpose: string) =>
    new Uint8Array(hkdfSync('sha256', secret, new Uint8Array(0), `git2db server ${purpose}`, 32));
  return { tokens: derive('tokens'), dataUrls: derive('data urls'), dedup: derive('dedup') };
}

/**
 * The key in `path`; with `create`, a new one when there is no such file (mode 0600; of two servers that
 * make it at once, both get the same). INVALID_CONFIG when it cannot be read, is too short, or may be read by
 * others.
 */
export function loadKeyFile(path: string, options: { readonly create: boolean }): Uint8Array {
  try {
    return readKey(path);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw keyError(path, error);
    if (!options.create) {
      throw new Git2dbError(
        'INVALID_CONFIG',
        `the key file ${path} does not exist: '(umask 077; head -c 32 /dev/urandom > FILE)' makes one`,
      );
    }
  }
  try {
    makeDirectories(dirname(path), 0o700);
    const temporary = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`;
    const fd = openSync(temporary, 'wx', 0o600);
    try {
      writeSync(fd, randomBytes(MIN_KEY_SIZE));
    } finally {
      closeSync(fd);
    }
    try {
      linkSync(temporary, path);
    } catch (error) {
      if (errnoOf(error) !== 'EEXIST') throw error;
    } finally {
      unlinkSync(temporary);
    }
    return readKey(path);
  } catch (error) {
    throw keyError(path, error);
  }
}

function readKey(path: string): Uint8Array {
  const status = statSync(path);
  if (status.size > MAX_KEY_FILE)
    throw new Error(`a key of ${status.size} bytes, at most ${MAX_KEY_FILE} are read`);
  if ((status.mode & 0o077) !== 0) {
    throw new Error(`others may read it (mode ${(status.mode & 0o777).toString(8)}): chmod 600 it`);
  }
  const key = readFileSync(path);
  if (key.length < MIN_KEY_SIZE)
    throw new Error(`a key has at least ${MIN_KEY_SIZE} bytes, this file ${key.length}`);
  return new Uint8Array(key);
}

function keyError(path: string, error: unknown): Git2dbError {
  return new Git2dbError('INVALID_CONFIG', `cannot use the key file ${path}: ${messageOf(error)}`, {
    cause: error,
  });
}

/** HMAC-SHA-256 of `text`. */
export function sign(key: Uint8Array, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

/** In a time that tells nothing about where two signatures differ. */
export function isSignature(key: Uint8Array, text: string, signature: Uint8Array): boolean {
  const expected = sign(key, text);
  return signature.length === expected.length && timingSafeEqual(signature, expected);
}
