/**
 * The shell that started this process by the first lines of the program (`scripts/mount-start.sh`), if it waits for
 * word from here instead of for the end of the process.
 */
import { closeSync, fstatSync, writeSync } from 'node:fs';

const VARIABLE = 'GIT2DB_STATUS_FD';

export class WaitingShell {
  readonly #fd: number;
  #isReleased = false;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Lets the shell end with the exit status `code`, the first time. False when it has ended by itself. */
  release(code: number): boolean {
    // The number of the descriptor may be another file's by now.
    if (this.#isReleased) return true;
    this.#isReleased = true;
    try {
      writeSync(this.#fd, String(code));
      return true;
    } catch {
      return false;
    } finally {
      closeSync(this.#fd);
    }
  }
}

/** To be asked once: what this process starts is not waited for. */
export function takeWaitingShell(): WaitingShell | undefined {
  const fd = Number(process.env[VARIABLE]);
  delete process.env[VARIABLE];
  return Number.isInteger(fd) && fd > 2 && isPipe(fd) ? new WaitingShell(fd) : undefined;
}

function isPipe(fd: number): boolean {
  try {
    return fstatSync(fd).isFIFO();
  } catch {
    return false;
  }
}
