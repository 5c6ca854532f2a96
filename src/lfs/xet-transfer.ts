/**
 * The `xet` transfer of the batch API (Xet protocol, "Git LFS batch with the xet transfer"): the action's headers
 * hold a CAS and a token for it, `href` gives a fresh one. Contents go up as chunks that the CAS lacks.
 */
import { CasStore } from '../xet/cas/client.ts';
import { tokenFromHeaders } from '../xet/cas/protocol.ts';
import { ExchangedToken, type ExchangeOptions } from '../xet/cas/token.ts';
import { Git2dbError } from '../xet/errors.ts';
import { formatHash } from '../xet/hash/xet-hash.ts';
import type { LocalStore } from '../xet/store/local-store.ts';
import { pushFiles } from '../xet/transfer/push.ts';
import type { TransferEvent, WantedFile } from '../xet/transfer/transfer.ts';
import { tokenFor } from './basic.ts';
import type { BatchObject, LfsAction } from './batch.ts';
import type { LfsConnection } from './connection.ts';
import { isHubUrl } from './hub-host.ts';
import type { LfsOutcome, LfsPlace, LfsTransferOptions } from './objects.ts';

/** An object, and the file hash it has here. */
export interface LocalFileOfObject {
  readonly object: BatchObject;
  readonly fileHash: Uint8Array;
}

/** Whether a server may send us to that CAS: its own authority, the Hub's to any that is no less encrypted than itself, or a trusted one. */
export function mayUseCas({
  env,
  isTrusted,
}: Pick<LfsPlace, 'env' | 'isTrusted'>): NonNullable<ExchangeOptions['mayUse']> {
  return (casUrl, from) =>
    casUrl.origin === from.origin ||
    (isHubUrl(from.href, env) && (casUrl.protocol === 'https:' || from.protocol === 'http:')) ||
    isTrusted(casUrl.origin);
}

/** Sends files of the chunk store to the CAS that the batch answer names. */
export async function uploadXet(
  place: Pick<LfsPlace, 'env' | 'isTrusted'>,
  connection: LfsConnection,
  local: LocalStore,
  files: readonly LocalFileOfObject[],
  options: LfsTransferOptions,
): Promise<LfsOutcome[]> {
  const first = files[0];
  if (first === undefined) return [];
  const store = openCas(place, connection, first.object);
  await using cas = await store;
  const wanted = files.map(
    ({ object, fileHash }): WantedFile => ({ hash: fileHash, size: object.size, sha256: object.sha256 }),
  );
  let told = 0;
  const result = await pushFiles(local, cas, wanted, {
    withSha256: true,
    signal: options.signal,
    onProgress: (event: TransferEvent) => {
      if (event.kind !== 'bytes') return;
      options.onProgress?.(event.bytes - told);
      told = event.bytes;
    },
  });
  return files.map(({ object, fileHash }, i): LfsOutcome => {
    const { sha256, size } = object;
    const outcome = result.files[i];
    if (outcome?.outcome !== 'failed' && outcome !== undefined)
      return { sha256, size, outcome: outcome.outcome };
    const error =
      outcome?.error ??
      new Git2dbError('CONTENT_MISSING', `file ${formatHash(fileHash)} of LFS object ${sha256} was not sent`);
    return { sha256, size, outcome: 'failed', error };
  });
}

async function openCas(
  place: Pick<LfsPlace, 'env' | 'isTrusted'>,
  connection: LfsConnection,
  object: BatchObject,
): Promise<CasStore> {
  const action = object.upload as LfsAction;
  const answer = tokenFromHeaders(action.header);
  const exchange: ExchangeOptions = {
    http: connection.http,
    tokenUrl: () => action.href,
    identity: tokenFor(connection, object, { href: action.href, header: {} }),
    mayUse: mayUseCas(place),
  };
  const token =
    answer === undefined
      ? await ExchangedToken.open(exchange, 'write')
      : ExchangedToken.from(exchange, 'write', answer);
  return CasStore.open({ http: connection.http, casUrl: token.casUrl, token });
}
