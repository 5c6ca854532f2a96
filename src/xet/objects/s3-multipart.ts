/** Uploads in parts, for services, or proxies before them, that take no large bodies. */
import type { ObjectBody, ObjectOptions } from './objects.ts';
import { inParts } from './s3-body.ts';
import { causeOf, type S3Bucket } from './s3-bucket.ts';
import { isRefusedByCondition } from './s3-error.ts';

/** A larger body is sent in parts of so many bytes, where it has to be. */
export const PART_BYTES = 8 << 20;

/** False if another object was put meanwhile. */
export async function putInParts(
  bucket: S3Bucket,
  key: string,
  body: ObjectBody,
  options: ObjectOptions,
): Promise<boolean> {
  const { sdk, client } = bucket;
  const name = bucket.keyed(key);
  const { UploadId } = await bucket.try('writing', key, options, (signal) =>
    client.send(new sdk.CreateMultipartUploadCommand(name), { abortSignal: signal }),
  );
  if (UploadId === undefined) throw bucket.invalid(key, 'the answer names no upload');
  try {
    const parts: { PartNumber: number; ETag: string | undefined }[] = [];
    for await (const bytes of inParts(body, PART_BYTES)) {
      const PartNumber = parts.length + 1;
      const { ETag } = await bucket.try('writing', key, options, (signal) =>
        client.send(new sdk.UploadPartCommand({ ...name, UploadId, PartNumber, Body: bytes }), {
          abortSignal: signal,
        }),
      );
      parts.push({ PartNumber, ETag });
    }
    await bucket.try('writing', key, options, (signal) =>
      client.send(
        new sdk.CompleteMultipartUploadCommand({
          ...name,
          UploadId,
          MultipartUpload: { Parts: parts },
          IfNoneMatch: '*',
        }),
        { abortSignal: signal },
      ),
    );
    return true;
  } catch (error) {
    await client.send(new sdk.AbortMultipartUploadCommand({ ...name, UploadId })).catch(() => undefined);
    if (isRefusedByCondition(causeOf(error))) return false;
    throw error;
  }
}
