export default {
  files: ['build/test/**/*.test.js'],
  timeout: '5m',
  // More than there are processors on small machines: most tests wait for programs and disks.
  concurrency: 3,
  workerThreads: false,
};
