/**
 * The pointer that git has for a path. A repository may hold pointers that other programs wrote
 * (xet-core's JSON, the old TOML): cleaning their content must give back those very bytes, or every
 * such file would look modified for ever.
 */
import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { ObjectReader } from '../git/cat-file.ts';
import { StagedOids } from '../git/staged-oid.ts';
import { errnoOf } from '../xet/errors.ts';
import { POINTER_MAX } from '../xet/pointer/sniff.ts';
import type { FilterConfig } from './config.ts';

export class StagedPointers {
  readonly #config: FilterConfig;
  #index: { readonly oids: StagedOids; readonly mtimeNs: bigint } | undefined;
  #reader: ObjectReader | undefined;

  constructor(config: FilterConfig) {
    this.#config = config;
  }

  /**
   * Bytes to answer for content at `path`: what is staged there when `isSame` says that it is a foreign
   * pointer for the same content, else `canonical`. No promise in the ordinary cases.
   */
  answer(path: Buffer, canonical: Buffer, isSame: (staged: Buffer) => boolean): Buffer | Promise<Buffer> {
    const index = this.#readIndex();
    if (index === undefined) return canonical;
    const staged = index.find(path);
    if (staged === undefined || (staged !== 'ask' && staged === this.#oidOf(canonical))) return canonical;
    return this.#lookUp(
      staged === 'ask' ? Buffer.concat([Buffer.from(':'), path]) : Buffer.from(staged),
      canonical,
      isSame,
    );
  }

  /** Whether `path` is in conflict; also true where that would be costly to find out. */
  mayBeUnmerged(path: Buffer): boolean {
    const index = this.#readIndex();
    return index !== undefined && index.isUnmerged(path) !== false;
  }

  async #lookUp(name: Buffer, canonical: Buffer, isSame: (staged: Buffer) => boolean): Promise<Buffer> {
    this.#reader ??= new ObjectReader({
      cwd: this.#config.repository.workTree ?? this.#config.repository.gitDir,
      keepGitEnv: true,
    });
    const header = await this.#reader.info(name);
    if (header === undefined || header.type !== 'blob' || header.size > POINTER_MAX) return canonical;
    const object = await this.#reader.read(header.oid);
    return object !== undefined && isSame(object.body) ? object.body : canonical;
  }

  #readIndex(): StagedOids | undefined {
    const { indexPath, objectFormat } = this.#config;
    // Asked for every file: an error with its stack, in a repository without an index, would cost more than the file.
    const mtimeNs = statSync(indexPath, { bigint: true, throwIfNoEntry: false })?.mtimeNs;
    if (mtimeNs === undefined) return undefined;
    if (this.#index?.mtimeNs === mtimeNs) return this.#index.oids;
    try {
      this.#index = { oids: new StagedOids(readFileSync(indexPath), objectFormat), mtimeNs };
      return this.#index.oids;
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  #oidOf(pointer: Buffer): string {
    return createHash(this.#config.objectFormat)
      .update(`blob ${pointer.length}\0`)
      .update(pointer)
      .digest('hex');
  }

  close(): void {
    this.#reader?.close();
  }
}
