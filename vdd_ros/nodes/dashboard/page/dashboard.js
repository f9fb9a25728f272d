'use strict';

const SPAN = 180;      // length of the plot [s]
const SILENCE = 3500;  // without an event for so long [ms], the connection counts as lost
const SHOWN = 10;      // experts with a bar of their own

const $ = (id) => document.getElementById(id);
const seconds = () => performance.now() / 1000;
const percent = (value) => value === null || value === undefined ? '–' : `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;
const storage = { get: () => sessionStorage.getItem('token') || '', set: (token) => sessionStorage.setItem('token', token) };

let points = [];
let serial = 0;
let state = null;
let received = 0;
let commands = [];

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'style') Object.assign(element.style, value); else if (name in element) element[name] = value; else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function draw(tag, attributes, text) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/* ---- connection ---- */

function connect() {
  const stream = new EventSource('/api/events');
  stream.addEventListener('greeting', (event) => greet(JSON.parse(event.data)));
  stream.addEventListener('state', (event) => {
    received = performance.now();
    state = JSON.parse(event.data);
    if (state.serial !== serial && state.point) points.push({ ...state.point, at: seconds() - state.age });
    serial = state.serial;
    points = points.filter((point) => point.at > seconds() - SPAN - 5);
    show();
  });
}

function greet(greeting) {
  points = greeting.history.map((point) => ({ ...point, at: seconds() - point.age }));
  serial = state === null ? 0 : state.serial;
  if (points.length) points.pop(), serial = -1;  // the newest comes with the state that follows
  commands = greeting.commands;
  document.body.classList.toggle('writable', greeting.writable);
  $('readonly').hidden = greeting.writable;
  $('lock').hidden = !greeting.writable;
  $('controls').hidden = !greeting.writable;
  showControls();
}

/* ---- values ---- */

function show() {
  if (state === null) return;
  const lost = performance.now() - received > SILENCE;
  const waiting = state.age === null;
  const stale = !waiting && (lost || state.stale);
  document.body.classList.toggle('waiting', waiting);
  document.body.classList.toggle('stale', stale);
  document.title = `${waiting ? 'waiting' : stale ? 'stale' : state.message.split(':')[0]} · ${state.node}`;
  $('node').textContent = state.node;
  const age = waiting ? 0 : state.age + (performance.now() - received) / 1000;
  $('link').className = `pill ${lost ? 'error' : waiting ? '' : stale ? 'error' : 'ok'}`;
  $('link').textContent = lost ? 'no connection' : waiting ? 'waiting' : stale ? `stale, ${age.toFixed(0)} s old` : 'live';
  if (waiting) {
    $('message').textContent = `Waiting for ${state.node}`;
    $('note').textContent = state.others.length ? `Other policy nodes: ${state.others.join(', ')}` : 'No diagnostics have arrived yet.';
    return;
  }
  $('banner').className = `card ${stale ? '' : state.level}`;
  $('message').textContent = state.message;
  $('note').textContent = stale ? `These values are ${age.toFixed(0)} s old. ${lost ? 'The dashboard does not answer.' : 'The node sends no diagnostics.'}` : '';
  $('stage').textContent = state.stage || '–';
  $('device').parentElement.hidden = !state.device;
  $('device').textContent = state.device === 'held' ? 'held' : 'released';
  $('device').title = state.device;
  $('speed').textContent = state.speed === null ? '–' : percent(state.speed);
  $('rate').textContent = state.rate === null ? '–' : `${state.rate.toFixed(0)} / s`;
  showExperts();
  showRules();
  showSignals();
  showTables();
  plot();
}

function showExperts() {
  const acting = state.expert;
  const [swatch, name, share] = $('expert').children;
  swatch.style.background = acting ? acting.colour : '';
  name.textContent = acting ? (acting.name === String(acting.number) ? `expert ${acting.number}` : acting.name) : 'none';
  share.textContent = acting ? percent(acting.probability) : '';
  const ranked = state.experts.filter((each) => each.probability !== null).sort((a, b) => b.probability - a.probability);
  const shown = ranked.slice(0, SHOWN).sort((a, b) => a.number - b.number);
  const rest = ranked.slice(SHOWN).reduce((sum, each) => sum + each.probability, 0);
  const rows = shown.map((each) => bar(each.name === String(each.number) ? `expert ${each.number}` : `${each.number} ${each.name}`,
    each.probability, each.colour, acting && each.number === acting.number));
  if (ranked.length > SHOWN) rows.push(bar(`${ranked.length - SHOWN} others`, rest, 'var(--muted)', false));
  $('gating').replaceChildren(...rows);
}

function bar(name, share, colour, acting) {
  const fill = make('i', { style: { width: `${100 * share}%`, background: colour } });
  return make('div', { className: `bar${acting ? ' acting' : ''}` },
    make('span', { textContent: name, title: name }), make('div', { className: 'track' }, fill), make('span', { textContent: percent(share) }));
}

function showRules() {
  const rules = state.rules.map((name) => make('li', { textContent: name }));
  $('rules').replaceChildren(...(rules.length ? rules : [make('li', { className: 'none', textContent: 'none' })]));
  $('explanation').textContent = state.explanation;
}

function showSignals() {
  const level = state.ood.level;
  $('ood').textContent = level || '–';
  $('ood').className = `pill ${{ fine: 'ok', warn: 'warn', slow: 'warn', stop: 'error' }[level] || ''}`;
  const signals = state.ood.signals.map((signal) => make('div', { className: 'signal' },
    make('p', {}, make('span', { textContent: signal.name }), make('span', { textContent: signal.score.toFixed(2) })), gauge(signal)));
  $('signals').replaceChildren(...(signals.length ? signals : [make('p', { className: 'hint', textContent: 'No signal is watched.' })]));
}

function gauge(signal) {
  const svg = draw('svg', { class: 'gauge', viewBox: '0 0 200 26', preserveAspectRatio: 'none', role: 'img', 'aria-label': `score ${signal.score.toFixed(2)}` });
  const place = (score) => Math.max(0, Math.min(200, 100 + 80 * score));
  for (const [from, to, kind] of [[-9, 0, 'fine'], [0, 1, 'warn'], [1, 9, 'stop']]) {
    svg.append(draw('rect', { x: place(from), y: 9, width: Math.max(place(to) - place(from), 0), height: 8, class: kind }));
  }
  svg.append(draw('rect', { x: place(signal.score) - 1.5, y: 2, width: 3, height: 22, rx: 1.5, class: 'hand' }));
  return svg;
}

function row(...cells) { return make('tr', {}, ...cells.map((text) => make('td', { textContent: text }))); }

function milliseconds(value) {
  if (value === null) return '–';
  return value < 0.995 ? `${(1000 * value).toFixed(0)} µs` : `${value.toFixed(value < 9.95 ? 1 : 0)} ms`;
}

function showTables() {
  const limits = state.limits.map((each) => {
    const now = each.joints.length ? each.joints.join(', ') : 'not now';
    const line = row(each.kind, now, `${each.total.toLocaleString('en')} in all`);
    if (each.joints.length) line.children[1].className = 'bad';
    return line;
  });
  $('limits').tBodies[0].replaceChildren(...(limits.length ? limits : [row('No limit has changed a command.')]));
  $('latency').replaceChildren(...state.latency.map((each) => row(each.text, ...['p50', 'p95', 'p99'].map((share) => milliseconds(each[share])))));
  const named = Object.entries(state.counts).filter(([, count]) => count);
  $('counts').textContent = named.map(([name, count]) => `${name.replaceAll('_', ' ')} ${count.toLocaleString('en')}`).join(' · ');
  if ($('details').closest('details').open) {
    $('details').tBodies[0].replaceChildren(...Object.entries(state.details).map(([name, value]) => row(name, value)));
  }
}

/* ---- plot: gating, OOD score and lateness over one axis of time ---- */

function plot() {
  const width = Math.max($('plot').clientWidth, 280), now = seconds();
  const left = 46, right = width - 6;
  const x = (at) => right - (now - at) * (right - left) / SPAN;
  const lanes = [['Probability of the experts', 110], ['OOD score', 70], ['Lateness of commands, p99', 70]];
  const height = lanes.reduce((sum, [, size]) => sum + size + 30, 0) + 16;
  const svg = draw('svg', { viewBox: `0 0 ${width} ${height}`, height, role: 'img', 'aria-label': 'Gating, OOD score and lateness over the last three minutes' });
  const known = points.filter((point) => x(point.at) >= left);
  let top = 18;
  for (const [name, size] of lanes) {
    const lane = { left, right, top, bottom: top + size, x };
    svg.append(draw('text', { x: left, y: top - 6, class: 'name' }, name));
    if (name === lanes[0][0]) areas(svg, lane, known); else curve(svg, lane, known, name === lanes[1][0] ? 'score' : 'lateness');
    svg.append(draw('rect', { x: left, y: top, width: right - left, height: size, class: 'frame' }));
    top += size + 30;
  }
  for (const back of [180, 120, 60, 0]) {
    const anchor = back === 0 ? 'end' : back === SPAN ? 'start' : 'middle';
    svg.append(draw('text', { x: x(now - back), y: height - 4, 'text-anchor': anchor }, back ? `−${back} s` : 'now'));
  }
  $('plot').replaceChildren(svg);
}

/* Runs of points without a gap. */
function runs(known) {
  const found = [];
  for (const point of known) {
    const last = found.at(-1);
    if (last && point.at - last.at(-1).at < 3) last.push(point); else found.push([point]);
  }
  return found;
}

function areas(svg, lane, known) {
  const size = lane.bottom - lane.top;
  for (const run of runs(known.filter((point) => point.gating.length && point.gating[0] !== null))) {
    const experts = Math.min(...run.map((point) => point.gating.length));
    let lower = run.map(() => 0);
    for (let expert = 0; expert < experts; expert++) {
      const upper = run.map((point, place) => lower[place] + point.gating[expert]);
      const y = (value) => (lane.bottom - size * Math.min(value, 1)).toFixed(1);
      const forth = run.map((point, place) => `${lane.x(point.at).toFixed(1)},${y(upper[place])}`);
      const back = run.map((point, place) => `${lane.x(point.at).toFixed(1)},${y(lower[place])}`).reverse();
      const colour = state.experts[expert] ? state.experts[expert].colour : '#888888';
      svg.append(draw('polygon', { points: [...forth, ...back].join(' '), fill: colour, opacity: 0.85 }));
      lower = upper;
    }
  }
}

function curve(svg, lane, known, key) {
  const values = known.filter((point) => point[key] !== null).map((point) => point[key]);
  const [low, high] = key === 'score' ? [-1, 1.25] : [0, Math.max(1, 1.2 * Math.max(...values, 0))];
  const y = (value) => lane.bottom - (lane.bottom - lane.top) * (Math.max(low, Math.min(high, value)) - low) / (high - low);
  const marks = key === 'score' ? [[0, 'warn', 'limit'], [1, 'stop', 'limit stop']] : [[high / 2, milliseconds(high / 2), 'grid']];
  for (const [value, text, kind] of marks) {
    svg.append(draw('line', { x1: lane.left, x2: lane.right, y1: y(value), y2: y(value), class: kind }));
    svg.append(draw('text', { x: lane.left - 5, y: y(value) + 4, 'text-anchor': 'end' }, text));
  }
  for (const run of runs(known.filter((point) => point[key] !== null))) {
    svg.append(draw('polyline', { class: 'line', points: run.map((point) => `${lane.x(point.at).toFixed(1)},${y(point[key]).toFixed(1)}`).join(' ') }));
  }
}

/* ---- commands ---- */

async function post(path) {
  try {
    const response = await fetch(path, { method: 'POST', headers: { Authorization: `Bearer ${storage.get()}` } });
    return { status: response.status, ...await response.json() };
  } catch (error) {
    return { status: 0, success: false, text: 'the dashboard does not answer' };
  }
}

function showControls() {
  const unlocked = Boolean(storage.get());
  $('lock').textContent = unlocked ? 'Lock' : 'Unlock';
  for (const group of ['motion', 'setup']) {
    $(group).replaceChildren(...commands.filter((each) => each.group === group).map((each) => make('button', {
      id: `command-${each.name}`, textContent: each.label, disabled: !unlocked, className: each.name === 'stop' ? 'stop' : '',
      title: unlocked ? '' : 'Unlock first', onclick: () => send(each),
    })));
  }
}

async function send(command) {
  if (command.question && !await sure(command)) return;
  $('answer').textContent = `${command.label} …`;
  const answer = await post(`/api/commands/${command.name}`);
  if (answer.status === 403) lock();
  $('answer').className = `hint${answer.success ? '' : ' bad'}`;
  $('answer').textContent = `${command.label}: ${answer.text}`;
}

function sure(command) {
  $('question-title').textContent = command.label;
  $('question').textContent = command.question;
  $('sure').textContent = command.label;
  const dialog = $('confirm');
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener('close', () => resolve(dialog.returnValue === 'sure'), { once: true }));
}

function lock() {
  storage.set('');
  showControls();
}

async function unlock() {
  storage.set($('token').value.trim());
  const answer = await post('/api/unlock');
  $('token').value = '';
  if (!answer.success) {
    lock();
    $('refused').textContent = answer.text;
    return;
  }
  $('refused').textContent = '';
  $('unlock').close();
  showControls();
}

$('more').addEventListener('click', () => $('more').setAttribute('aria-expanded', $('controls').classList.toggle('open')));
$('lock').addEventListener('click', () => { if (storage.get()) lock(); else { $('refused').textContent = ''; $('unlock').showModal(); } });
$('enter').addEventListener('click', (event) => { event.preventDefault(); unlock(); });
$('details').closest('details').addEventListener('toggle', () => { if (state && state.age !== null) showTables(); });
window.addEventListener('resize', () => { if (state && state.age !== null) plot(); });
setInterval(show, 1000);
connect();
