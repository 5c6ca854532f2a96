/**
 * Tokens for servers. A source of tokens belongs to one authority (scheme, host and port), and http.ts gives
 * its tokens to no other. Tokens appear in no URL, log or error.
 */

export type TokenScope = 'read' | 'write';

export interface TokenSource {
  /** The origin of a URL: `https://host:port`, without the port where it is the scheme's own. */
  readonly authority: string;
  /** Default `Bearer`. */
  readonly scheme?: 'Bearer' | 'Basic';
  /** What to send now; undefined: nothing, ask as an unknown person. Throws AUTH_FAILED, REMOTE_FORBIDDEN, ... */
  get(scope: TokenScope, signal?: AbortSignal): Promise<string | undefined>;
  /** The server answered 401 to what `get` gave. The next `get` gives something else, or the same if there is nothing else. */
  invalidate(token: string | undefined): void;
  /** The server took what `get` gave. */
  accept?(token: string | undefined): void;
}
