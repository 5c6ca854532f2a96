import { EXIT_FALSE, EXIT_OK } from '../../exit-codes.ts';
import type { ChunkList, FileDigest } from '../../large-files/file-digest.ts';
import { formatHash, HASH_SIZE } from '../../xet/hash/xet-hash.ts';
import { defineCommand } from '../command.ts';
import { digestWithProgress, readOperand } from '../operand-files.ts';

export const xetHash = defineCommand({
  path: ['xet', 'hash'],
  summary: 'Compute the Xet hash and the chunks of files',
  description: `Computes what Xet makes of each FILE, without a repository or a store: the file
hash and the chunks, the same on every machine and in every version. "-" reads
standard input. A FILE that cannot be read is named, and the others are done.

Prints "<file hash>  <FILE>" for each; with --chunks, after it an indented line
"<chunk hash> <length>" for each chunk.

JSON: {"size","sha256","fileHash","chunkCount"}, with --chunks also
"chunks":[{"hash","length"}]; for several FILEs a list of these, each with
"path", without those that could not be read.`,
  operands: { usage: 'FILE...', min: 1, max: Number.POSITIVE_INFINITY, complete: 'file' },
  options: {
    chunks: { type: 'boolean', describe: 'List the chunks too' },
  },
  examples: [
    ['git2db xet hash model.safetensors', 'the hash that its pointer holds'],
    ['git2db xet hash --json - < model.bin', 'with the SHA-256 that git-lfs would use'],
  ],
  exitCodes: [[EXIT_FALSE, 'Some files could not be read']],
  async run({ options, operands }, context) {
    const { output, json } = context;
    const { digestFile } = await import('../large-files-library.ts');
    const several = operands.length > 1;
    const documents: object[] = [];
    let failures = 0;
    for (const path of operands) {
      const digest = readOperand(
        path,
        context,
        (fd, size) => digestWithProgress(path, context, { fd, size }, { sha256: json }, digestFile),
        !several,
      );
      if (digest === undefined) failures++;
      else if (json) documents.push({ ...(several ? { path } : {}), ...documentOf(digest, options.chunks) });
      else {
        output.data(`${digest.fileHash}  ${path}`);
        if (options.chunks) {
          for (const { hash, length } of listChunks(digest.chunks)) output.data(`  ${hash} ${length}`);
        }
      }
    }
    if (json && several) output.json(documents);
    else if (json && documents.length === 1) output.json(documents[0]);
    return failures === 0 ? EXIT_OK : EXIT_FALSE;
  },
});

function documentOf({ size, sha256, fileHash, chunks }: FileDigest, withChunks: boolean): object {
  const summary = { size, sha256, fileHash, chunkCount: chunks.count };
  return withChunks ? { ...summary, chunks: [...listChunks(chunks)] } : summary;
}

function* listChunks({ count, hashes, lengths }: ChunkList): Iterable<{ hash: string; length: number }> {
  for (let i = 0; i < count; i++) yield { hash: formatHash(hashes, i * HASH_SIZE), length: lengths[i]! };
}
