/** Descriptors that a process has from whoever started it, without knowing of them. */
import { closeSync, readdirSync, readFileSync } from 'node:fs';

const O_CLOEXEC = 0o2000000;

/** Below it Node sets that flag also on what it finds when it starts, and there is what we were given on purpose. */
const FIRST = 17;

/**
 * Closes those from 17 on, for a process that outlives its command: a lock or a pipe of the caller's would stay with
 * it. They are told from our own by the flag close-on-exec, which Node sets on all that it opens.
 */
export function closeInherited(): void {
  try {
    for (const name of readdirSync('/proc/self/fd')) {
      const fd = Number(name);
      if (fd >= FIRST && isKeptOnExec(fd)) closeSync(fd);
    }
  } catch {
    // Without /proc they stay, as they do with any other program.
  }
}

function isKeptOnExec(fd: number): boolean {
  try {
    const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1];
    return flags !== undefined && (Number.parseInt(flags, 8) & O_CLOEXEC) === 0;
  } catch {
    // The descriptor of the listing itself.
    return false;
  }
}
