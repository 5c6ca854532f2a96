import { constants, PerformanceObserver } from 'node:perf_hooks';
import { setImmediate } from 'node:timers/promises';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import { dropShortLived } from '../../src/xet/xorb/short-lived.ts';

const MIB = 1 << 20;

interface Collection {
  readonly startTime: number;
  readonly kind: number | undefined;
}

test('the young generation is collected for bytes that have come, but not for the first of them', async (t) => {
  const collections: Collection[] = [];
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries())
      collections.push({
        startTime: entry.startTime,
        kind: (entry as { detail?: { kind?: number } }).detail?.kind,
      });
  });
  observer.observe({ entryTypes: ['gc'] });
  const during = async (bytes: number) => {
    const start = performance.now();
    dropShortLived(bytes);
    const end = performance.now();
    for (let i = 0; i < 10; i++) await setImmediate();
    return collections.filter(({ startTime }) => startTime >= start && startTime <= end);
  };
  t.deepEqual(await during(60 * MIB), []);
  const isMinor = ({ kind }: Collection) => kind === constants.NODE_PERFORMANCE_GC_MINOR;
  t.true((await during(4 * MIB)).some(isMinor));
  t.deepEqual(await during(7 * MIB), [], 'it was a moment ago');
  t.true((await during(MIB)).some(isMinor));
  observer.disconnect();
  t.is(runInNewContext('typeof gc'), 'undefined', 'nobody else is shown the function');
});
