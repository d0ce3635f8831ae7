// A headless browser over pages of sweeps, which notes everything that a page must not do.
'use strict';

const { execFileSync } = require('node:child_process');
const { createRequire } = require('node:module');
const fs = require('node:fs');
const path = require('node:path');
const { pathToFileURL } = require('node:url');

// Chromium's own errands would be looked up on the network.
const FLAGS = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
  '--disable-background-networking', '--disable-component-update'];

class Pages {
  constructor(chromium, render, buildFolder) {
    const build = path.resolve(buildFolder);
    this.executablePath = chromium;
    this.render = render;
    this.folder = path.join(build, 'pages');
    this.playwright = createRequire(path.join(build, 'npm', 'package.json'))('playwright-core');
    fs.mkdirSync(this.folder, { recursive: true });
  }

  async start() {
    this.browser = await this.playwright.chromium.launch(
      { executablePath: this.executablePath, args: FLAGS });
  }

  stop() {
    return this.browser?.close();
  }

  // The page of `results`, made by the C++ code.
  make(name, results) {
    const json = path.join(this.folder, `${name}.json`);
    const html = path.join(this.folder, `${name}.html`);
    fs.writeFileSync(json, JSON.stringify(results));
    execFileSync(this.render, [json, html], { stdio: ['ignore', 'inherit', 'inherit'] });
    return html;
  }

  // Runs visit(page) on the file `html`. Whatever the console, the page or the network has to say
  // fails the visit.
  async visit(html, visit, options = {}) {
    const context = await this.browser.newContext(
      { viewport: { width: 1400, height: 900 }, colorScheme: 'light', ...options });
    const url = pathToFileURL(html).href;
    const complaints = [];
    const page = await context.newPage();
    page.setDefaultTimeout(10_000);
    page.on('console', (message) => complaints.push(`console: ${message.text()}`));
    page.on('pageerror', (error) => complaints.push(`page: ${error.stack}`));
    context.on('request', (request) => {
      if (request.url() !== url && !request.url().startsWith('data:')) {
        complaints.push(`network: ${request.url()}`);
      }
    });
    try {
      await page.goto(url);
      await visit(page);
      // What was started late is heard of before the page is closed.
      await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(resolve)));
    } catch (error) {
      complaints.push(error.stack); // after its possible cause
    } finally {
      await context.close();
    }
    if (complaints.length > 0) {
      throw new Error(complaints.join('\n'));
    }
  }
}

module.exports = { Pages };
