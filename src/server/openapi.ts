/** The OpenAPI document (version 3.1) of the routes. */
import { packageVersion } from '../version.ts';
import type { Route } from './router.ts';

const MEANINGS: Readonly<Record<number, string>> = {
  200: 'Done',
  202: 'Begun',
  206: 'The ranges that were asked for',
  302: 'The bytes are elsewhere',
  400: 'The request is malformed, or what was uploaded is not what it says',
  401: 'A token is needed, or the one given is not valid',
  403: 'The token, or the signed address, does not allow this',
  404: 'Not here',
  405: 'Not this method',
  408: 'The request came too slowly',
  409: 'In conflict with what is here',
  413: 'Too large',
  416: 'No byte of the range exists',
  422: 'The request cannot be met as it is',
  429: 'Too many requests: wait as Retry-After says',
  500: 'The server failed',
  503: 'Not now',
  507: 'No space is left',
};

/** Every route may answer these. */
const ALWAYS = [429, 500, 503];

export function openApi(routes: readonly Route[]): unknown {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of routes) {
    const path = route.pattern.replaceAll('...}', '}');
    paths[path] ??= {};
    paths[path][route.method.toLowerCase()] = operation(route);
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'git2db serve',
      version: packageVersion(),
      description: 'A Xet CAS with git repositories, Git LFS and the endpoints that clients of the Hub need.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    paths,
    components: {
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer' },
        basic: { type: 'http', scheme: 'basic', description: 'Any user; the token is the password' },
      },
      responses: Object.fromEntries(
        Object.entries(MEANINGS).map(([status, description]) => [
          `status${status}`,
          { description, headers: { 'X-Request-Id': { schema: { type: 'string' } } } },
        ]),
      ),
    },
  };
}

function operation(route: Route): unknown {
  const names = [...route.pattern.matchAll(/\{(\w+)(?:\.\.\.)?\}/g)].map(([, name]) => name as string);
  const statuses = new Set([
    ...route.answers,
    ...ALWAYS,
    ...(route.access === 'open' ? [] : [401, 403]),
    ...(names.length > 0 ? [400] : []),
    ...(route.body === undefined ? [] : [408, 413]),
  ]);
  return {
    operationId: route.name,
    summary: route.summary,
    ...(names.length === 0
      ? {}
      : {
          parameters: names.map((name) => ({ name, in: 'path', required: true, schema: { type: 'string' } })),
        }),
    ...(route.body === undefined
      ? {}
      : { requestBody: { required: true, content: { [route.body]: { schema: {} } } } }),
    ...(route.access === 'open' ? {} : { security: [{}, { bearer: [] }, { basic: [] }] }),
    responses: Object.fromEntries(
      [...statuses]
        .sort((a, b) => a - b)
        .map((status) => [String(status), { $ref: `#/components/responses/status${status}` }]),
    ),
  };
}
