/** git2db-filter: `filter.xet.process`. */
import { startFilter } from './program.ts';

startFilter('xet');
