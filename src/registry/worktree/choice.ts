/** Which driver and backend a worktree gets: what was asked for, before what is configured. */
import { Git2dbError } from '../../xet/errors.ts';
import type { RegistryConfig } from '../config.ts';
import type { WorktreeSpec } from './driver.ts';

/** Throws USAGE for a backend of overlay2 with another driver. */
export function withChoice(
  spec: WorktreeSpec,
  { worktreeDriver, overlayBackend }: Pick<RegistryConfig, 'worktreeDriver' | 'overlayBackend'>,
): WorktreeSpec {
  const { driver, backend } = spec;
  const asksBackend = backend !== undefined && backend !== 'auto';
  if (asksBackend && (driver === 'vfs' || driver === 'reflink')) {
    throw new Git2dbError(
      'USAGE',
      `the backend ${backend} is one of overlay2, and the driver asked for is ${driver}: name one of them`,
    );
  }
  return {
    ...spec,
    // Naming a backend names overlay2, whatever is configured.
    driver: driver ?? (asksBackend ? 'overlay2' : worktreeDriver),
    backend: backend ?? overlayBackend,
  };
}
