/** git2db-lfs-filter: `filter.lfs.process`. */
import { startFilter } from './program.ts';

startFilter('lfs');
