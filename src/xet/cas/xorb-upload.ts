/** `POST /v1/xorbs/default/<hash>`: sends a xorb under its name. */
import { Git2dbError } from '../errors.ts';
import { merkleRoot } from '../hash/merkle.ts';
import { formatHash, hashesEqual } from '../hash/xet-hash.ts';
import type { XorbUpload } from '../store/store.ts';
import { lengthsOf } from '../xorb/ends.ts';
import type { XorbFooter } from '../xorb/format.ts';
import type { CasAccess } from './footer-places.ts';
import { parseXorbResult, ROUTES } from './protocol.ts';

/** A server checks all of a xorb, and writes it, before it answers. */
const ANSWER_MS = 300_000;
const MAX_SMALL_ANSWER = 65536;

/**
 * Whether it was new. `isThere` is asked only after a failure: whoever sends many has asked before. Throws
 * CONTENT_DAMAGED for a xorb that is not what its footer says.
 */
export async function uploadXorb(
  { http, casUrl, token }: CasAccess,
  xorb: XorbUpload,
  isThere: () => Promise<boolean>,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const { footer } = xorb;
  checkName(footer);
  for (let failures = 0; ; ) {
    try {
      const response = await http.request({
        method: 'POST',
        url: `${casUrl}${ROUTES.xorb(footer.xorbHash)}`,
        body: { length: footer.recordEnds.at(-1) ?? 0, stream: () => announcedBytes(xorb) },
        token,
        scope: 'write',
        idempotent: false,
        signal,
        accept: [200],
        headersTimeoutMs: ANSWER_MS,
      });
      return parseXorbResult(await response.json(MAX_SMALL_ANSWER));
    } catch (error) {
      await http.waitToRetry(error, ++failures, signal);
      // Perhaps only the answer was lost: then it is not sent once more.
      if (await isThere()) return true;
    }
  }
}

/** A chunk list that does not make the name it is sent under would be refused after all of it was sent. */
function checkName({ xorbHash, hashes, rawEnds, count }: XorbFooter): void {
  const lengths = lengthsOf(rawEnds);
  const found = merkleRoot(hashes, lengths, count);
  if (hashesEqual(found, 0, xorbHash, 0)) return;
  throw new Git2dbError(
    'CONTENT_DAMAGED',
    `xorb ${formatHash(xorbHash)} is not sent: its chunk list makes xorb ${formatHash(found)}; run \`git2db xet fsck\``,
    { data: { xorb: formatHash(xorbHash) } },
  );
}

/**
 * The records of a xorb, if they are as long as its footer says. The last bytes are held back until that is
 * certain: a server keeps what has arrived as a whole.
 */
async function* announcedBytes({ footer, records }: XorbUpload): AsyncGenerator<Uint8Array, void, undefined> {
  const length = footer.recordEnds.at(-1) ?? 0;
  let size = 0;
  let held: Uint8Array | undefined;
  for await (const piece of records()) {
    size += piece.length;
    if (size > length) break;
    if (held !== undefined) yield held;
    held = piece;
  }
  if (size !== length) {
    throw new Git2dbError(
      'CONTENT_DAMAGED',
      `xorb ${formatHash(footer.xorbHash)} is not sent: its records have ${size > length ? 'more than ' : ''}${Math.min(size, length)} bytes, its footer says ${length}`,
      { data: { xorb: formatHash(footer.xorbHash) } },
    );
  }
  if (held !== undefined) yield held;
}
