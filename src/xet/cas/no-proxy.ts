/**
 * NO_PROXY: who is asked without a proxy. A list, separated by commas or blanks, of
 *
 *     *                 everybody
 *     example.org       that host and all below it; so does .example.org
 *     example.org:8443  only at that port
 *     192.0.2.7, [::1]  an address
 *     192.0.2.0/24      the addresses of a network
 */
import { BlockList, isIP } from 'node:net';

export function isExempt(url: URL, noProxy: string): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
  const port = url.port === '' ? (url.protocol === 'https:' ? '443' : '80') : url.port;
  return noProxy.split(/[\s,]+/).some((entry) => entry !== '' && fits(entry.toLowerCase(), host, port));
}

function fits(entry: string, host: string, port: string): boolean {
  if (entry === '*') return true;
  const network = /^\[?([0-9a-f.:]+)\]?\/(\d{1,3})$/.exec(entry);
  if (network !== null) return isInNetwork(host, network[1] as string, Number(network[2]));
  const address = /^\[(.*)\](?::(\d+))?$/.exec(entry);
  const named =
    address ?? (isIP(entry) === 6 ? [entry, entry, undefined] : /^([^:]*)(?::(\d+))?$/.exec(entry));
  if (named === null || (named[2] !== undefined && named[2] !== port)) return false;
  const name = (named[1] ?? '').replace(/^\*?\./, '').replace(/\.$/, '');
  if (name === '') return false;
  if (isIP(name) !== 0) return isInNetwork(host, name, isIP(name) === 4 ? 32 : 128);
  return host === name || host.endsWith(`.${name}`);
}

function isInNetwork(host: string, network: string, prefix: number): boolean {
  const family = isIP(network);
  if (family === 0 || isIP(host) !== family || prefix > (family === 4 ? 32 : 128)) return false;
  const kind = family === 4 ? 'ipv4' : 'ipv6';
  const list = new BlockList();
  list.addSubnet(network, prefix, kind);
  return list.check(host, kind);
}
