// What a real browser shows of the loopback pages: no console message, no request to anywhere else, nothing
// wider than a phone. Screenshots go to the folder that is the second argument.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const [program, folder] = process.argv.slice(2);
const phone = { viewport: { width: 360, height: 640 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
const desk = { viewport: { width: 1280, height: 800 } };
const problems = [];

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});

// Signs in once and hands the page to `look` on the way.
async function signIn(name, outcome, device, colorScheme, heading) {
  const wrong = (what) => problems.push(`${name}: ${what}`);
  const child = spawn(program, [outcome], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  const [url] = await once(createInterface(child.stdout), 'line');
  const context = await browser.newContext({ ...device, colorScheme });
  const page = await context.newPage();
  // A browser notes the status of the page for strangers by itself.
  const known = (message) => message.text().includes('status of 400') && message.location().url.endsWith('state=wrong');
  page.on('console', (message) => known(message) || wrong(`console ${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => wrong(`error: ${error}`));
  page.on('requestfailed', (request) => wrong(`request failed: ${request.url()}`));
  const hosts = [url, new URL(url).searchParams.get('redirect_uri')].map((address) => new URL(address).host);
  page.on('request', (request) => hosts.includes(new URL(request.url()).host) || wrong(`outside request: ${request.url()}`));

  const shows = async (title, picture) => {
    await page.waitForLoadState('networkidle');
    const seen = await page.locator('h1').innerText();
    if (!title.test(seen)) wrong(`the page says ${JSON.stringify(seen)}`);
    const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    if (wide > room) wrong(`${wide} pixels wide, with room for ${room}`);
    const text = await page.locator('body').innerText();
    const secrets = ['code', 'state'].map((key) => new URL(page.url()).searchParams.get(key)).filter(Boolean);
    if (secrets.some((secret) => text.includes(secret))) wrong('the page shows the code or the state');
    await page.screenshot({ path: `${folder}/${picture}.png` });
  };
  // Somebody else's redirect comes first: it is told so, and the receiver goes on waiting.
  await page.goto(`${new URL(url).searchParams.get('redirect_uri')}?code=x&state=wrong`);
  await shows(/wrong sign-in/i, `${name}-stranger`);
  await page.goto(url);
  await shows(heading, name);
  const [status] = await ended;
  if (status !== 0) wrong(`the program ended with ${status}`);
  await context.close();
}

await signIn('success-phone-light', 'success', phone, 'light', /sign-in received/i);
await signIn('success-phone-dark', 'success', phone, 'dark', /sign-in received/i);
await signIn('error-phone-light', 'error', phone, 'light', /not|refused|denied|fail/i);
await signIn('error-phone-dark', 'error', phone, 'dark', /not|refused|denied|fail/i);
await signIn('success-desk-light', 'success', desk, 'light', /sign-in received/i);
await signIn('error-desk-dark', 'error', desk, 'dark', /not|refused|denied|fail/i);
await browser.close();

problems.forEach((problem) => console.error(problem));
console.log(problems.length ? `${problems.length} problems` : `6 sign-ins looked right; pictures in ${folder}`);
process.exitCode = problems.length ? 1 : 0;
