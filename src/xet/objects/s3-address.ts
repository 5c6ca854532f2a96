/**
 * Where a bucket is: `s3://bucket/prefix?endpoint=https://host&region=...&pathStyle=true`. Who may use it is not
 * in the address: environment (`AWS_ACCESS_KEY_ID`, `AWS_PROFILE`, ...) and `~/.aws` say so.
 */
import { Git2dbError } from '../errors.ts';

export interface S3Address {
  readonly bucket: string;
  /** Empty, or ends with a slash. */
  readonly prefix: string;
  /** Undefined: Amazon's for the region. */
  readonly endpoint: string | undefined;
  /** Undefined: as the environment or the profile says. */
  readonly region: string | undefined;
  /** Whether the bucket stands in the path and not in the host. */
  readonly pathStyle: boolean;
}

const PARAMETERS: ReadonlySet<string> = new Set(['endpoint', 'region', 'pathStyle']);

/** Throws URL_INVALID. */
export function parseS3Address(text: string): S3Address {
  const match = /^s3:\/\/([^/?#]*)(\/[^?#]*)?(?:\?([^#]*))?$/i.exec(text);
  if (match === null) throw invalid('expected s3://bucket/prefix?endpoint=https://host&region=name');
  const [, bucket = '', path = '', query = ''] = match;
  if (/[@:]/.test(bucket)) {
    throw invalid(
      'keys do not belong into it: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile',
    );
  }
  if (!/^[a-z0-9][a-z0-9._-]{1,62}$/i.test(bucket)) {
    throw invalid(`${JSON.stringify(bucket.slice(0, 80))} cannot be the name of a bucket`);
  }
  const parameters = new URLSearchParams(query);
  for (const name of parameters.keys()) {
    if (PARAMETERS.has(name)) continue;
    throw invalid(
      `${JSON.stringify(name.slice(0, 40))} is no parameter of it; known are ${[...PARAMETERS].join(', ')}`,
    );
  }
  const endpoint = parameters.get('endpoint') ?? undefined;
  const region = parameters.get('region') ?? undefined;
  if (region !== undefined && !/^[a-z0-9-]{1,60}$/i.test(region)) throw invalid('region is no name');
  return {
    bucket,
    prefix: prefixOf(path),
    endpoint: endpoint === undefined ? undefined : checkedEndpoint(endpoint),
    region,
    pathStyle: flagOf(parameters.get('pathStyle')) ?? endpoint !== undefined,
  };
}

function prefixOf(path: string): string {
  let decoded: string;
  try {
    decoded = decodeURIComponent(path);
  } catch (cause) {
    throw invalid('its path is not percent-encoded UTF-8', cause);
  }
  const parts = decoded.split('/').filter((part) => part !== '');
  if (parts.some((part) => part === '.' || part === '..' || /[\p{Cc}]/u.test(part))) {
    throw invalid('its path has a part that no key should have');
  }
  return parts.map((part) => `${part}/`).join('');
}

function checkedEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.search !== '' || url.hash !== '') {
    throw invalid('endpoint must be an http:// or https:// URL');
  }
  if (url.username !== '' || url.password !== '') throw invalid('endpoint must not hold a user or password');
  return url.href.replace(/\/$/, '');
}

function flagOf(value: string | null): boolean | undefined {
  if (value === null) return undefined;
  if (/^(true|yes|1|)$/i.test(value)) return true;
  if (/^(false|no|0)$/i.test(value)) return false;
  throw invalid('pathStyle must be true or false');
}

function invalid(why: string, cause?: unknown): Git2dbError {
  return new Git2dbError('URL_INVALID', `not the address of a bucket: ${why}`, { cause });
}
