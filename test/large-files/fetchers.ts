/** The processes beside filters that fetch content, as a checkout starts them. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { ExecutionContext } from 'ava';

/** The processes that fetch for the filters in this directory. */
export function fetchers(directory: string): number[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const words = readFileSync(`/proc/${name}/cmdline`, 'latin1').split('\0');
      return words.includes('fetch-content') && readlinkSync(`/proc/${name}/cwd`) === directory
        ? [Number(name)]
        : [];
    } catch {
      return [];
    }
  });
}

/** Waits for it, a minute at most. */
export async function until(t: ExecutionContext, holds: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 1200 && !holds(); i++) await new Promise((resolve) => setTimeout(resolve, 50));
  t.true(holds(), what);
}
