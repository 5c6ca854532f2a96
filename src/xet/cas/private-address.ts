/**
 * Addresses that mean something only on this machine or in this network. A server out in the world that sends
 * us to one of them wants something done there in our name.
 */
import { BlockList, isIP } from 'node:net';

/** Loopback, private, shared (carrier) and link-local use, multicast, reserved, "this host". */
const RANGES: readonly (readonly [string, number, 'ipv4' | 'ipv6'])[] = [
  ['0.0.0.0', 8, 'ipv4'],
  ['10.0.0.0', 8, 'ipv4'],
  ['100.64.0.0', 10, 'ipv4'],
  ['127.0.0.0', 8, 'ipv4'],
  ['169.254.0.0', 16, 'ipv4'],
  ['172.16.0.0', 12, 'ipv4'],
  ['192.0.0.0', 24, 'ipv4'],
  ['192.168.0.0', 16, 'ipv4'],
  ['198.18.0.0', 15, 'ipv4'],
  ['224.0.0.0', 3, 'ipv4'],
  ['::', 127, 'ipv6'],
  ['fc00::', 7, 'ipv6'],
  ['fe80::', 9, 'ipv6'],
  ['ff00::', 8, 'ipv6'],
];

/** Ranges of IPv6 that hold an IPv4 address, and the 16-bit group where it begins: mapped, compatible, NAT64, 6to4. */
const EMBEDDED: readonly (readonly [string, number, number])[] = [
  ['::ffff:0:0', 96, 6],
  ['::', 96, 6],
  ['64:ff9b::', 96, 6],
  ['64:ff9b:1::', 48, 6],
  ['2002::', 16, 1],
];

const blocked = new BlockList();
for (const [network, prefix, family] of RANGES) blocked.addSubnet(network, prefix, family);

const embedding = EMBEDDED.map(([network, prefix, group]) => {
  const list = new BlockList();
  list.addSubnet(network, prefix, 'ipv6');
  return { list, group };
});

/** `address`: an IP address, as a number of dots or colons, with or without brackets or a zone. */
export function isPrivateAddress(address: string): boolean {
  const plain = plainAddress(address);
  const family = isIP(plain);
  if (family === 4) return blocked.check(plain, 'ipv4');
  if (family !== 6) return false;
  if (blocked.check(plain, 'ipv6')) return true;
  for (const { list, group } of embedding) {
    if (list.check(plain, 'ipv6') && blocked.check(ipv4At(plain, group), 'ipv4')) return true;
  }
  return false;
}

/** Whether the host of a URL is an address itself, which nobody looks up. */
export function isAddress(hostname: string): boolean {
  return isIP(plainAddress(hostname)) !== 0;
}

function plainAddress(address: string): string {
  return address.replace(/^\[|\]$/g, '').replace(/%.*$/, '');
}

/** The IPv4 address in groups `group` and `group` + 1 of an IPv6 address. */
function ipv4At(address: string, group: number): string {
  // A URL writes every IPv6 address in one way, without dots.
  const text = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [head = '', tail] = text.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups =
    tail === undefined ? left : [...left, ...Array(8 - left.length - right.length).fill('0'), ...right];
  const high = Number.parseInt(groups[group] ?? '0', 16);
  const low = Number.parseInt(groups[group + 1] ?? '0', 16);
  return `${high >>> 8}.${high & 255}.${low >>> 8}.${low & 255}`;
}
