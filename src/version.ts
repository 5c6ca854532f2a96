import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Git2dbError } from './xet/errors.ts';

/** The version in our own package.json, the nearest one above the running file (bundled or not). */
export function packageVersion(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const manifest = readManifest(join(folder, 'package.json'));
    if (manifest?.name === 'git2db' && typeof manifest.version === 'string') return manifest.version;
    const parent = dirname(folder);
    if (parent === folder) {
      throw new Git2dbError(
        'INVALID_CONFIG',
        `no package.json of git2db above ${fileURLToPath(import.meta.url)}: the installation is incomplete`,
      );
    }
    folder = parent;
  }
}

function readManifest(path: string): { name?: unknown; version?: unknown } | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}
