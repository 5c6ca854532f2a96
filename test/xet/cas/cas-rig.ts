/** A CasStore and the server that it talks to. */
import type { ExecutionContext } from 'ava';
import { CasStore } from '../../../src/xet/cas/client.ts';
import type { HttpSettings } from '../../../src/xet/cas/http.ts';
import type { TokenSource } from '../../../src/xet/cas/token.ts';
import { CasServer, type CasServerOptions } from './cas-server.ts';
import { openClient } from './http-rig.ts';

export interface RigOptions {
  readonly token?: TokenSource;
  readonly settings?: HttpSettings;
}

export async function openRig(t: ExecutionContext, server: CasServerOptions = {}, options: RigOptions = {}) {
  const cas = await CasServer.start(t, server);
  return { cas, ...openStore(t, cas, options) };
}

export function openStore(t: ExecutionContext, cas: CasServer, { token, settings }: RigOptions = {}) {
  const { http, clock, pauses } = openClient(t, settings);
  const store = CasStore.open({ http, casUrl: cas.url, clock, token });
  return { http, store, pauses };
}

/** The ways in which servers speak the protocol. */
export const KINDS: readonly (readonly [string, CasServerOptions])[] = [
  ['a server of ours', {}],
  ['a foreign CAS', { extensions: false }],
  [
    'a foreign CAS of version 1',
    { extensions: false, reconstructions: [1], shardsV2: false, head: false, multipart: false },
  ],
  ['a foreign CAS that signs ranges', { extensions: false, signsRanges: true }],
];
