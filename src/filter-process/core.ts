/** What the filter loads with its first request. */
import { setFlagsFromString } from 'node:v8';
import { packageVersion } from '../version.ts';
import { loadFilterConfig } from './config.ts';
import type { PointerKind, Report } from './filter-context.ts';
import { LargeFileFilter } from './large-file-filter.ts';
import { convertOne } from './one-file.ts';

export { convertOne, packageVersion };

// The filter runs for seconds, and its hot loops are WASM, native code and system calls: optimising
// its JavaScript early costs more than it gives (a tenth of the CPU time of checking out many files).
setFlagsFromString('--interrupt-budget=1000000');

export function openFilter(report: Report, kind: PointerKind): LargeFileFilter {
  return new LargeFileFilter(() => loadFilterConfig(process.cwd(), process.env), report, kind);
}
