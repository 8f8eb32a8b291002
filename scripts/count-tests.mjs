// Prints `N passed, N failed, N skipped` from vitest's JSON report. Exits 1 when something failed or there is no report.
import { readFileSync } from 'node:fs';

const counts = { passed: 0, failed: 0, skipped: 0 };
try {
  for (const file of JSON.parse(readFileSync(process.argv[2], 'utf8')).testResults) {
    const mayNotSkip = file.name.includes('/test/e2e/');
    if (file.status === 'failed' && file.assertionResults.every((test) => test.status !== 'failed')) counts.failed += 1;
    for (const test of file.assertionResults) {
      if (test.status === 'passed') counts.passed += 1;
      else if (test.status === 'failed') counts.failed += 1;
      else if (mayNotSkip) {
        console.log(`skipped, counted as failed: ${test.fullName}`);
        counts.failed += 1;
      } else counts.skipped += 1;
    }
  }
} catch (error) {
  console.log(`no test report: ${error.message}`);
  counts.failed += 1;
}
console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exit(counts.failed > 0 ? 1 : 0);
