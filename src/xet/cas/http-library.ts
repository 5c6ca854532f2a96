/** What is used of undici. The programs have it in a file of its own, which the first request loads. */
export { Agent, ProxyAgent } from 'undici';
