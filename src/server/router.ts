/**
 * Routes: a method, a path with named parts, what the caller must be allowed to do. The table is also what
 * the OpenAPI document and the metrics are made from.
 *
 * A pattern is literal but for `{name}`, one part without a slash, and `{name...}`, one or more parts,
 * as few as possible. Parts are decoded once and checked: no empty part, no `.` or `..`, no
 * control characters, no slash hidden in a `%2F` except where the route says so.
 */
import type { Exchange } from './exchange.ts';
import { HttpError } from './http-error.ts';

export type Access = 'open' | 'read' | 'write' | 'handler';

export interface Route {
  /** `reconstruction.v2`: for log, metrics and OpenAPI's operationId. */
  readonly name: string;
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'DELETE';
  readonly pattern: string;
  /** `open`: anybody; `handler`: the handler asks itself, since it depends on the repository. */
  readonly access: Access;
  readonly summary: string;
  /** Parameters that may hold `%2F` (revisions such as `refs/pr/1`). */
  readonly slashes?: readonly string[];
  /** Statuses besides those that every route may answer. */
  readonly answers: readonly number[];
  /** Content type of the body that is expected, for OpenAPI. */
  readonly body?: string;
  readonly handle: (exchange: Exchange) => Promise<void> | void;
}

export interface Match {
  readonly route: Route;
  readonly params: Readonly<Record<string, string>>;
}

interface Compiled {
  readonly route: Route;
  readonly expression: RegExp;
  readonly names: readonly string[];
}

export class Router {
  readonly routes: readonly Route[];
  readonly #compiled: readonly Compiled[];

  constructor(routes: readonly Route[]) {
    this.routes = routes;
    this.#compiled = routes.map(compile);
  }

  /** Throws 404 for a path that no route has, 405 for a method that none of its routes has. */
  match(method: string, path: string): Match {
    const allowed: string[] = [];
    for (const { route, expression, names } of this.#compiled) {
      const found = expression.exec(path);
      if (found === null) continue;
      if (route.method !== method) {
        allowed.push(route.method);
        continue;
      }
      const params: Record<string, string> = {};
      for (const [i, name] of names.entries()) {
        params[name] = decodePart(found[i + 1] as string, route.slashes?.includes(name) === true);
      }
      return { route, params };
    }
    if (allowed.length > 0) {
      const list = [...new Set(allowed)].join(', ');
      throw new HttpError(405, `${method} is not possible here; ${list} is`, { Allow: list });
    }
    throw new HttpError(404, 'there is nothing at this address');
  }
}

function compile(route: Route): Compiled {
  const names: string[] = [];
  const source = route.pattern.replace(/[.*+?^$()|[\]\\]|\{(\w+)(\.\.\.)?\}/g, (whole, name, many) => {
    if (name === undefined) return `\\${whole}`;
    names.push(name);
    return many === undefined ? '([^/]+)' : '(.+?)';
  });
  return { route, expression: new RegExp(`^${source}$`), names };
}

function decodePart(text: string, mayHoldSlash: boolean): string {
  return text
    .split('/')
    .map((part) => {
      let decoded: string;
      try {
        decoded = decodeURIComponent(part);
      } catch {
        throw new HttpError(400, 'the address is not percent-encoded UTF-8');
      }
      const pieces = mayHoldSlash ? decoded.split('/') : [decoded];
      // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is refused
      const isBad = (piece: string) => /^\.{0,2}$|[\x00-\x1f\x7f/\\]/.test(piece);
      if (pieces.some(isBad)) throw new HttpError(400, 'the address has an impossible part');
      return decoded;
    })
    .join('/');
}
