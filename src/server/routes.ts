/** All routes of a server, in the order in which they are tried. */
import { extensionRoutes } from './cas/extension-routes.ts';
import { readRoutes } from './cas/read-routes.ts';
import { writeRoutes } from './cas/write-routes.ts';
import type { ServerContext } from './context.ts';
import { gitRoutes } from './git/routes.ts';
import { hubRoutes } from './hub/routes.ts';
import { lfsRoutes } from './lfs/routes.ts';
import { openApi } from './openapi.ts';
import type { Route } from './router.ts';

export function allRoutes(context: ServerContext): readonly Route[] {
  const routes: Route[] = [
    ...operatorRoutes(context, () => routes),
    ...extensionRoutes(context),
    ...readRoutes(context),
    ...writeRoutes(context),
    ...(context.repositories === undefined
      ? []
      : [
          ...hubRoutes(context, context.repositories),
          ...lfsRoutes(context, context.repositories),
          ...gitRoutes(context, context.repositories),
        ]),
  ];
  return routes;
}

function operatorRoutes(context: ServerContext, routes: () => readonly Route[]): Route[] {
  const health: Route['handle'] = (exchange) => exchange.bytes(Buffer.from('ok\n'), 'text/plain');
  return [
    {
      name: 'health',
      method: 'GET',
      pattern: '/healthz',
      access: 'open',
      summary: 'Whether the server answers',
      answers: [200],
      handle: health,
    },
    {
      name: 'health.short',
      method: 'GET',
      pattern: '/health',
      access: 'open',
      summary: 'The same, where clients of the CAS API look for it',
      answers: [200],
      handle: health,
    },
    {
      name: 'metrics',
      method: 'GET',
      pattern: '/metrics',
      access: 'open',
      summary: 'Counters in the text format of Prometheus',
      answers: [200],
      handle: (exchange) =>
        exchange.bytes(Buffer.from(context.metrics.text()), 'text/plain; version=0.0.4; charset=utf-8'),
    },
    {
      name: 'openapi',
      method: 'GET',
      pattern: '/openapi.json',
      access: 'open',
      summary: 'This list, as an OpenAPI document',
      answers: [200],
      handle: (exchange) => exchange.json(openApi(routes())),
    },
  ];
}
