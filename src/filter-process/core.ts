/** What the filter loads with its first request. */
import { setFlagsFromString } from 'node:v8';
import { raisePipeCapacity } from '../native/pipe-capacity.ts';
import { packageVersion } from '../version.ts';
import { loadFilterConfig } from './config.ts';
import type { PointerKind, Report } from './filter-context.ts';
import { LargeFileFilter } from './large-file-filter.ts';
import { convertOne } from './one-file.ts';

export { convertOne, packageVersion };

const STDOUT = 1;
const WIDE_PIPE = 1 << 20;

// The filter runs for seconds, and its hot loops are WASM, native code and system calls: optimising
// its JavaScript early costs more than it gives (a tenth of the CPU time of checking out many files).
setFlagsFromString('--interrupt-budget=1000000');

export function openFilter(report: Report, kind: PointerKind): LargeFileFilter {
  const config = () => loadFilterConfig(process.cwd(), process.env);
  return new LargeFileFilter(config, report, kind, widenOutput);
}

/**
 * A pipe of the usual size holds a quarter of a middling file: the filter would have to wait for git to read it,
 * instead of reading the next one meanwhile.
 */
function widenOutput(): void {
  if (process.platform !== 'linux') return;
  try {
    raisePipeCapacity(STDOUT, WIDE_PIPE);
  } catch {
    // Without the native module it takes longer.
  }
}
