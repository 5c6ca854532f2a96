/** By which URL a client reaches the server, and from where. */
import type { IncomingMessage } from 'node:http';
import { Git2dbError } from '../xet/errors.ts';
import { type Listener, urlOf } from './listener.ts';

/** The URL under which others know the server, and the path in front of all of ours. Throws INVALID_CONFIG. */
export function checkPublicUrl(text: string): { readonly url: string; readonly prefix: string } {
  if (URL.canParse(text)) {
    const { protocol, username, password, origin, pathname, search, hash } = new URL(text);
    const isPlain = username === '' && password === '' && search === '' && hash === '';
    if ((protocol === 'http:' || protocol === 'https:') && isPlain) {
      const prefix = pathname.replace(/\/+$/, '');
      return { url: origin + prefix, prefix };
    }
  }
  throw new Git2dbError(
    'INVALID_CONFIG',
    `the public URL of a server is http:// or https:// with a host, and without user, query and fragment; found '${text}'`,
  );
}

/** The `Host` header says by which of its names the client reaches the server. */
export function baseOf(request: IncomingMessage, listener: Listener): string {
  const isTls = 'encrypted' in request.socket;
  const { host } = request.headers;
  if (host !== undefined && /^(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?$/.test(host)) {
    return `${isTls ? 'https' : 'http'}://${host}`;
  }
  return urlOf(listener, isTls);
}

/** The address of whoever asks; behind a proxy, what the proxy says. */
export function clientOf(request: IncomingMessage, trustProxy: boolean): string {
  const own = request.socket.remoteAddress ?? 'unknown';
  if (!trustProxy) return own;
  const forwarded = request.headers['x-forwarded-for'];
  const last =
    String(forwarded ?? '')
      .split(',')
      .at(-1)
      ?.trim() ?? '';
  return /^[0-9A-Fa-f:.]{2,45}$/.test(last) ? last : own;
}
