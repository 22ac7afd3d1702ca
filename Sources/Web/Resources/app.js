// The pages' one script: shows what the API says, in German or English. No framework, nothing from elsewhere.
const texts = {
  de: {
    welcome: 'Bitte geben Sie den Zugangscode aus Ihrer Einladung ein.', code: 'Zugangscode', signIn: 'Anmelden', signOut: 'Abmelden', other: 'English',
    yourRecordings: 'Ihre Aufzeichnungen', yourDecision: 'Ihre Entscheidung', notice: 'Worum es geht', allow: 'Ich erlaube', audio: 'meinen Ton', video: 'mein Bild',
    give: 'Einwilligen', refuse: 'Nicht aufzeichnen', withdraw: 'Widerrufen', erase: 'beim Widerruf auch löschen, was schon von mir aufgezeichnet wurde', results: 'Aufzeichnung',
    meetings: 'Treffen', title: 'Titel (freiwillig)', plan: 'Treffen anlegen', people: 'Teilnehmende', name: 'Name', invite: 'Einladen', recordings: 'Aufzeichnungen',
    askRecording: 'Aufzeichnung anfordern', sdpHelp: 'Eine Zeile „Name Art“ (Art: audio, video oder screen), darunter das SDP, dann eine Leerzeile.', streams: 'Medienströme', record: 'Aufzeichnen',
    whoRecorded: 'Wer aufgezeichnet wird', decision: 'Entscheidung', now: 'Jetzt', pause: 'Pause', resume: 'Weiter', stop: 'Beenden', release: 'Freigeben', eraseAll: 'Löschen',
    undecided: 'noch keine', given: 'eingewilligt', refused: 'abgelehnt', withdrawn: 'widerrufen', invalidated: 'bitte neu entscheiden, die Angaben haben sich geändert', on: 'wird aufgezeichnet', off: 'wird nicht aufgezeichnet',
    youOn: 'Sie werden gerade aufgezeichnet.', youOff: 'Sie werden gerade nicht aufgezeichnet.', expires: 'Wird gelöscht am', download: 'herunterladen', none: 'Es gibt noch keine Aufzeichnung.',
    export: 'Alle meine Daten herunterladen', exportHelp: 'Ein Archiv (tar) mit allem, was über Sie gespeichert ist, und Ihren eigenen Spuren; niemand sonst ist darin.', rename: 'Namen berichtigen',
    yourData: 'Ihre Daten', rights: 'Widersprechen oder löschen lassen: mit „Widerrufen“ bei der Aufzeichnung. Einschränken: bei der Aufzeichnung.',
    restrict: 'Für 31 Tage einschränken', restrictWhy: 'Einschränken, weil', lift: 'Einschränkung aufheben', restrictHelp: 'Dann wird die Aufzeichnung nur aufbewahrt, bis Ihr Anliegen geklärt ist. Länger oder noch einmal: über die Moderation.',
    restricted: 'Eingeschränkt bis', restrictedNote: 'Die Aufzeichnung wird nur aufbewahrt, sonst geschieht nichts mit ihr. Grund: ', erasureWaits: 'Ihr Widerruf gilt; gelöscht wird, sobald die Einschränkung endet.',
    reason: { accuracy: 'die Richtigkeit wird bestritten', unlawful: 'sie ist möglicherweise unrechtmäßig', 'legal-claims': 'sie wird für Rechtsansprüche gebraucht', objection: 'ein Widerspruch wird geprüft' },
    restrictAll: 'Einschränken', restrictUntil: 'bis', restrictAllHelp: 'Die Aufzeichnung wird dann nur aufbewahrt: kein Abruf, keine Verarbeitung, keine Löschung, bis zu diesem Tag oder bis Sie es aufheben (Art. 18 DSGVO).',
    minor: 'minderjährig', guardian: 'Sorgeberechtigte einladen', guardianLink: (name) => `Link für die Sorgeberechtigten von ${name} (wird nur einmal gezeigt): `, needsGuardian: 'minderjährig: die Sorgeberechtigten müssen einwilligen',
    youAreGuardian: (name) => `Sie entscheiden als sorgeberechtigte Person für ${name}.`, minorHelp: 'Einwilligen können nur Ihre Sorgeberechtigten mit deren eigenem Zugangscode. Ablehnen und widerrufen können Sie jederzeit selbst.',
    asksAgain: 'Sie sind neu dazugekommen und werden deshalb noch einmal gefragt. Bis Sie antworten, wird dort nichts von Ihnen aufgezeichnet.', askedAgain: 'wird neu gefragt',
    email: 'E-Mail-Adresse (freiwillig)', save: 'Speichern', understood: 'Gelesen', receipt: 'Quittung über die Löschung Ihrer Aufnahmen',
    emailHelp: 'Dorthin schreiben wir nur, was Sie wissen müssen: wenn jemand widerrufen hat oder eine Aufzeichnung endet. Leer: nur auf dieser Seite.',
    invited: 'Einladungslink (wird nur einmal gezeigt): ', sure: 'Wirklich endgültig löschen?', saved: 'Gespeichert.', failed: 'Das hat nicht geklappt: ',
    state: { recording: 'läuft', paused: 'Pause', processing: 'wird verarbeitet', ready: 'fertig', failed: 'fehlgeschlagen' },
    kind: { composite: 'Video', mix: 'Ton', waveform: 'Wellenform', thumbnail: 'Standbild' },
    making: 'Was daraus wird', steps: 'Einzelne Schritte', released: 'freigegeben',
    made: {
      live: ({ made_seconds }) => `wird schon während der Aufzeichnung hergestellt, bisher ${long(made_seconds)}`,
      running: ({ progress, seconds_left }) => `wird hergestellt: ${Math.floor(progress * 100)} %${seconds_left === undefined ? '' : `, noch etwa ${about(seconds_left)}`}`,
      inputs: ({ seconds_left }) => `wartet auf das, woraus es gemacht wird${seconds_left === undefined ? '' : `, noch etwa ${about(seconds_left)}`}`,
      turn: () => 'wartet, bis es an der Reihe ist', pause: () => 'wartet: die Betreiber haben die Verarbeitung angehalten',
      retry: () => 'ein Versuch ist misslungen, der nächste folgt von selbst', ready: () => '✓ fertig, kann freigegeben werden', out: () => '✓ fertig, kann heruntergeladen werden',
      empty: () => 'nichts aufgezeichnet, woraus es werden könnte', before: () => '; die bisherige Fassung bleibt bis dahin',
      failed: ({ fault, reason, job }) => `⚠ ${{
        error: 'Das ist auch nach mehreren Versuchen misslungen.', crash: 'Das ist mehrmals abgestürzt und wird nicht von selbst wiederholt.',
        cancelled: 'Das haben die Betreiber abgebrochen.', input: 'Etwas, woraus es gemacht wird, ist misslungen.',
      }[fault]} Was aufgezeichnet wurde, ist noch da. Bitten Sie die Betreiber, nachzusehen und es noch einmal zu versuchen; nennen Sie ihnen die Nummer ${job.slice(0, 12)}.${reason ? ` Grund (englisch): ${reason}` : ''}`,
    },
    comesIn: 'Empfang', stream: { audio: 'Ton', video: 'Bild', screen: 'Bildschirm' },
    health: {
      waiting: 'noch nichts empfangen', good: 'gut', lossy: (health) => `lückenhaft: ${Math.round(health.loss_percent)} % fehlen`, silent: 'seit Sekunden kommt nichts',
      'no-key-frame': 'Bild noch nicht lesbar (Schlüsselbild fehlt)', undecryptable: 'nicht zu entschlüsseln (falscher Schlüssel)',
    },
  },
  en: {
    welcome: 'Please enter the access code from your invitation.', code: 'Access code', signIn: 'Sign in', signOut: 'Sign out', other: 'Deutsch',
    yourRecordings: 'Your recordings', yourDecision: 'Your decision', notice: 'What this is about', allow: 'I allow', audio: 'my voice', video: 'my picture',
    give: 'Consent', refuse: 'Do not record me', withdraw: 'Withdraw', erase: 'when withdrawing, also erase what was recorded of me', results: 'Recording',
    meetings: 'Meetings', title: 'Title (optional)', plan: 'Plan a meeting', people: 'Participants', name: 'Name', invite: 'Invite', recordings: 'Recordings',
    askRecording: 'Ask for a recording', sdpHelp: 'A line “name kind” (kind: audio, video or screen), the SDP below it, then an empty line.', streams: 'Media streams', record: 'Record',
    whoRecorded: 'Who is being recorded', decision: 'Decision', now: 'Now', pause: 'Pause', resume: 'Resume', stop: 'Stop', release: 'Release', eraseAll: 'Erase',
    undecided: 'none yet', given: 'consented', refused: 'refused', withdrawn: 'withdrawn', invalidated: 'please decide anew, the notice has changed', on: 'being recorded', off: 'not recorded',
    youOn: 'You are being recorded now.', youOff: 'You are not being recorded now.', expires: 'Will be erased on', download: 'download', none: 'There is no recording yet.',
    export: 'Download all my data', exportHelp: 'An archive (tar) of everything that is kept about you, and of your own tracks; nobody else is in it.', rename: 'Correct my name',
    yourData: 'Your data', rights: 'To object or have it erased: “Withdraw” at the recording. To restrict it: at the recording.',
    restrict: 'Restrict for 31 days', restrictWhy: 'Restrict, because', lift: 'End the restriction', restrictHelp: 'The recording is then only kept until your matter is settled. For longer, or once more: through the moderator.',
    restricted: 'Restricted until', restrictedNote: 'The recording is kept, and nothing else is done with it. Reason: ', erasureWaits: 'Your withdrawal holds; erasure follows as soon as the restriction ends.',
    reason: { accuracy: 'its accuracy is contested', unlawful: 'it may be unlawful', 'legal-claims': 'it is needed for legal claims', objection: 'an objection is being looked at' },
    restrictAll: 'Restrict', restrictUntil: 'until', restrictAllHelp: 'The recording is then only kept: no download, no processing, no erasure, until that day or until you end it (Art. 18 GDPR).',
    minor: 'a minor', guardian: 'Invite a guardian', guardianLink: (name) => `Link for the guardian of ${name} (shown only once): `, needsGuardian: 'a minor: their guardian has to consent',
    youAreGuardian: (name) => `You decide as the guardian of ${name}.`, minorHelp: 'Only your guardian can consent, with an access code of their own. You can refuse and withdraw by yourself at any time.',
    asksAgain: 'You joined anew and are therefore asked once more. Until you answer, nothing of you is recorded there.', askedAgain: 'asked again',
    email: 'E-mail address (optional)', save: 'Save', understood: 'I have read it', receipt: 'Receipt for the erasure of what was recorded of you',
    emailHelp: 'We write there only what you have to know: that somebody withdrew, or that a recording ends. Empty: on this page only.',
    invited: 'Invitation link (shown only once): ', sure: 'Really erase for good?', saved: 'Saved.', failed: 'That did not work: ',
    state: { recording: 'running', paused: 'paused', processing: 'being processed', ready: 'ready', failed: 'failed' },
    kind: { composite: 'Video', mix: 'Sound', waveform: 'Waveform', thumbnail: 'Still picture' },
    making: 'What becomes of it', steps: 'Single steps', released: 'released',
    made: {
      live: ({ made_seconds }) => `is being made while the recording runs, so far ${long(made_seconds)}`,
      running: ({ progress, seconds_left }) => `is being made: ${Math.floor(progress * 100)} %${seconds_left === undefined ? '' : `, about ${about(seconds_left)} left`}`,
      inputs: ({ seconds_left }) => `waits for what it is made of${seconds_left === undefined ? '' : `, about ${about(seconds_left)} left`}`,
      turn: () => 'waits for its turn', pause: () => 'waits: the operator has paused the work',
      retry: () => 'an attempt failed, the next one follows by itself', ready: () => '✓ ready, can be released', out: () => '✓ ready, can be downloaded',
      empty: () => 'nothing was recorded that it could be made of', before: () => '; the version before it stays until then',
      failed: ({ fault, reason, job }) => `⚠ ${{
        error: 'This failed even after several attempts.', crash: 'This crashed several times and is not tried again by itself.',
        cancelled: 'The operator cancelled this.', input: 'Something that it is made of failed.',
      }[fault]} What was recorded is still there. Ask the operator to look and to try again; tell them the number ${job.slice(0, 12)}.${reason ? ` Reason: ${reason}` : ''}`,
    },
    comesIn: 'Reception', stream: { audio: 'Sound', video: 'Picture', screen: 'Screen' },
    health: {
      waiting: 'nothing received yet', good: 'good', lossy: (health) => `with gaps: ${Math.round(health.loss_percent)} % missing`, silent: 'nothing has come for seconds',
      'no-key-frame': 'picture not readable yet (no key frame)', undecryptable: 'cannot be decrypted (wrong key)',
    },
  },
};
let language = localStorage.getItem('language') ?? (navigator.language.startsWith('de') ? 'de' : 'en');
let csrf = '';
const t = (key) => texts[language][key] ?? key;
const $ = (selector, root = document) => root.querySelector(selector);
const say = (text) => { $('#status').textContent = text; };
// A length, exactly; and one that is guessed: no figure pretends to know more than it does.
const long = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, '0')} min`;
const about = (seconds) => (seconds < 55 ? `${Math.max(5, Math.ceil(seconds / 5) * 5)} s` : seconds < 5400 ? `${Math.ceil(seconds / 60)} min` : `${Math.ceil(seconds / 3600)} h`);
const date = (seconds) => new Date(seconds * 1000).toLocaleString(language, { dateStyle: 'long', timeStyle: 'short' });

function translate(root = document) {
  document.documentElement.lang = language;
  for (const node of root.querySelectorAll('[data-t]')) node.textContent = t(node.dataset.t);
  const button = $('#language');
  if (button) button.textContent = t('other');
}

async function call(method, path, body) {
  const response = await fetch(path, { method, headers: { 'X-CSRF-Token': csrf, ...(body && { 'Content-Type': 'application/json' }) }, body: body && JSON.stringify(body) });
  if (response.status === 401 && document.body.dataset.page !== 'index') location.assign('/');
  const answer = response.status === 204 ? {} : await response.json();
  if (!response.ok) throw new Error([answer.detail ?? answer.title, answer.hint].filter(Boolean).join(' – '));
  return answer;
}
const attempt = async (work) => { try { await work(); } catch (error) { say(t('failed') + error.message); } };
const copy = (id) => { const node = $(`#${id}`).content.cloneNode(true).firstElementChild; translate(node); return node; };
function element(name, text, attributes = {}) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function index() {
  // A code in a link is filled in and removed from the address; nothing happens until the button is pressed.
  const fill = () => {
    const code = new URLSearchParams(location.hash.slice(1)).get('code');
    if (code) { $('#code').value = code; history.replaceState(null, '', '/'); }
  };
  fill();
  addEventListener('hashchange', fill);
  $('#sign-in').addEventListener('submit', (event) => {
    event.preventDefault();
    attempt(async () => location.assign((await call('POST', '/session', { code: $('#code').value })).page));
  });
}

async function ownData(me) {
  const person = (await call('GET', `/v1/meetings/${me.meeting}`)).participants.find(({ id }) => id === me.participant);
  me.minor = person?.minor;
  $('#name').value = person?.name ?? '';
  if (me.guardian) { $('#who').textContent = texts[language].youAreGuardian(person?.name ?? '–'); $('#who').hidden = false; }
  $('#rename').addEventListener('submit', (event) => {
    event.preventDefault();
    attempt(async () => { await call('PUT', `/v1/participants/${me.participant}/name`, { name: $('#name').value }); say(t('saved')); });
  });
}

// What people have to know: shown until they say that they have read it.
async function told() {
  const list = await call('GET', `/v1/me/notifications?language=${language}`);
  $('#told').replaceChildren(...list.map((message) => {
    const card = copy('message');
    $('h3', card).textContent = message.subject;
    $('p', card).textContent = message.text;
    $('button', card).addEventListener('click', () => attempt(async () => { await call('POST', `/v1/me/notifications/${message.id}/read`); card.remove(); }));
    return card;
  }));
}

async function contact() {
  // Nobody has to have one.
  $('#email').value = await call('GET', '/v1/me/contact').then(({ email }) => email, () => '');
  $('#contact').addEventListener('submit', (event) => {
    event.preventDefault();
    const email = $('#email').value.trim();
    attempt(async () => { await (email ? call('PUT', '/v1/me/contact', { email, language }) : call('DELETE', '/v1/me/contact')); say(t('saved')); });
  });
}

function restriction(card, recording, base, me) {
  const [place, lift] = [$('.restrict', card), $('.lift', card)];
  place.hidden = Boolean(recording.restriction);
  lift.hidden = recording.restriction?.participant !== me.participant;
  $('select', place).replaceChildren(...Object.entries(texts[language].reason).map(([value, text]) => element('option', text, { value })));
  const change = (method, body) => attempt(async () => { await call(method, `${base}/restriction`, body); say(t('saved')); await participant(me); });
  $('button', place).addEventListener('click', () => change('PUT', { reason: $('select', place).value, until: Date.now() / 1000 + 31 * 86400 - 600 }));
  lift.addEventListener('click', () => change('DELETE'));
}

function restricted(restriction, waits) {
  if (!restriction) return '';
  const note = `${t('restricted')} ${date(restriction.until)}. ${t('restrictedNote')}${texts[language].reason[restriction.reason]}.`;
  return waits ? `${note} ${t('erasureWaits')}` : note;
}

async function participant(me) {
  const box = $('#recordings');
  const list = await call('GET', `/v1/meetings/${me.meeting}/recordings`);
  if (!list.length) { box.replaceChildren(element('p', t('none'))); return; }
  const cards = await Promise.all(list.map((recording) => participantCard(recording, me)));
  box.replaceChildren(...cards);
}

async function participantCard(recording, me) {
  const card = copy('recording');
  const base = `/v1/recordings/${recording.id}`;
  const [notice, consent, renditions] = await Promise.all([call('GET', `${base}/notice?language=${language}`), call('GET', `${base}/consent`), call('GET', `${base}/renditions`)]);
  const own = consent.people[0];
  $('h2', card).textContent = date(recording.started_at);
  $('.state', card).textContent = texts[language].state[recording.state] ?? recording.state;
  $('.decision', card).textContent = t(own?.decision ?? 'undecided') + (own?.modalities.length ? `: ${own.modalities.map(t).join(', ')}` : '');
  $('.recorded', card).textContent = own?.recorded ? t('youOn') : t('youOff');
  $('.recorded', card).classList.toggle('on', Boolean(own?.recorded));
  $('.notice', card).textContent = notice.text;
  $('.again', card).hidden = !own?.asks_again;
  // A minor says no by themself; the yes is their guardian's.
  const isMinor = me.minor && !me.guardian;
  $('.minor', card).hidden = !isMinor;
  $('.give', card).disabled = isMinor;
  $('.restriction', card).textContent = restricted(recording.restriction, own?.erasure_waits);
  $('.consent > details', card).open = own?.asks_again || ['undecided', 'invalidated'].includes(own?.decision);
  $('.expiry', card).textContent = `${t('expires')} ${date(recording.expires_at)}`;
  const decide = (decision) => attempt(async () => {
    const modalities = ['audio', 'video'].filter((name) => $(`[name=${name}]`, card).checked);
    await call('POST', `${base}/consent`, { decision, notice: notice.hash, language, modalities, erase: $('[name=erase]', card).checked });
    say(t('saved'));
    await participant(me);
  });
  for (const [name, decision] of [['give', 'given'], ['refuse', 'refused'], ['withdraw', 'withdrawn']]) $(`.${name}`, card).addEventListener('click', () => decide(decision));
  $('.withdraw', card).disabled = own?.decision !== 'given';
  restriction(card, recording, base, me);
  if (own?.decision === 'withdrawn') {
    // There is one only where something of them had been recorded.
    const url = `${base}/receipt?participant=${me.participant}`;
    call('GET', url).then(() => { $('.receipt a', card).href = url; $('.receipt', card).hidden = false; }, () => {});
  }
  results(card, renditions);
  return card;
}

function results(card, renditions) {
  const readable = renditions.filter((item) => item.downloadable);
  const url = (item) => `/v1/renditions/${item.id}/content`;
  const main = readable.find((item) => item.kind === 'composite') ?? readable.find((item) => item.media_type === 'audio/mp4');
  if (main) {
    const player = element(main.kind === 'composite' ? 'video' : 'audio', undefined, { controls: '', preload: 'metadata', src: url(main) });
    const still = readable.find((item) => item.kind === 'thumbnail');
    if (still) player.setAttribute('poster', url(still));
    $('.player', card).append(player);
  }
  for (const item of renditions.filter((item) => ['composite', 'mix'].includes(item.kind))) {
    const line = element('li', `${texts[language].kind[item.kind]} (${item.container}, ${Math.round(item.bytes / 1024)} kB) `);
    line.append(item.downloadable ? element('a', t('download'), { href: `${url(item)}?download=1` }) : element('span', item.reason ?? ''));
    $('ul', card).append(line);
  }
}

async function moderator(me) {
  const meetings = await call('GET', '/v1/meetings');
  $('#meetings').replaceChildren(...meetings.map((meeting) => meetingCard(meeting, me)));
  listen();
  $('#new-meeting').addEventListener('submit', (event) => {
    event.preventDefault();
    attempt(async () => { await call('POST', '/v1/meetings', { title: $('#title').value || null }); location.reload(); });
  });
}

const showLink = (card, words, invitation) => { $('.link', card).textContent = `${words}${location.origin}/#code=${invitation.token}`; };

function personLine(card, person) {
  const line = element('li', person.name ?? '–');
  if (!person.minor) return line;
  const button = element('button', t('guardian'), { type: 'button', class: 'guardian' });
  button.addEventListener('click', () => attempt(async () => {
    showLink(card, texts[language].guardianLink(person.name ?? '–'), await call('POST', `/v1/participants/${person.id}/guardian`));
  }));
  line.append(` (${t('needsGuardian')}) `, button);
  return line;
}

function meetingCard(meeting, me) {
  const card = copy('meeting');
  $('h2', card).textContent = meeting.title ?? date(meeting.created_at);
  $('.people', card).replaceChildren(...meeting.participants.map((person) => personLine(card, person)));
  $('.invite', card).addEventListener('submit', (event) => {
    event.preventDefault();
    attempt(async () => {
      const invitation = await call('POST', `/v1/meetings/${meeting.id}/participants`, { name: $('.invite input', card).value, minor: $('.invite .minor', card).checked });
      meeting.participants.push(invitation.participant);
      $('.people', card).append(personLine(card, invitation.participant));
      showLink(card, t('invited'), invitation);
      $('.invite', card).reset();
    });
  });
  $('.record', card).addEventListener('submit', (event) => {
    event.preventDefault();
    attempt(async () => {
      const streams = $('.record textarea', card).value.trim().split(/\n\s*\n/).map((block) => {
        const [head, ...sdp] = block.split('\n');
        const [, name, kind] = head.trim().match(/^(.*)\s+(\w+)$/) ?? [];
        return { participants: meeting.participants.filter((person) => person.name === name).map((person) => person.id), kind, sdp: sdp.join('\r\n') + '\r\n' };
      });
      await call('POST', `/v1/meetings/${meeting.id}/recordings`, { streams });
      await showRecordings(card, meeting, me);
    });
  });
  watch(() => showRecordings(card, meeting, me));
  return card;
}

// Asks again every two seconds while the page is seen.
function watch(work) {
  const round = async () => { if (!document.hidden) await attempt(work); setTimeout(round, 2000); };
  round();
}

// Bars follow the server's events; while none come, each round of asking fills them.
function listen() {
  const events = new EventSource('/v1/recordings/events');
  events.addEventListener('progress', ({ data }) => {
    for (const { recording, making } of JSON.parse(data).recordings) {
      const node = $(`[data-id="${recording}"]`);
      if (!node) continue;
      node.heardAt = Date.now();
      showMaking(node, making);
    }
  });
  // Connections that end are made anew by the browser; refused ones are not.
  events.addEventListener('error', () => { if (events.readyState === EventSource.CLOSED) setTimeout(listen, 30000); });
}

const isShown = ({ kind }) => ['mix', 'composite'].includes(kind);

// A bar for sound and picture, and for whatever failed. The elements stay while they change, so that a screen reader keeps its place; what
// is new is said once, not each percent.
function showMaking(node, list) {
  const box = $('.making', node);
  node.making = list;
  const shown = list.filter((item) => isShown(item) || item.state === 'failed').sort((a, b) => (b.kind === 'mix') - (a.kind === 'mix'));
  $('.made', node).hidden = !shown.length;
  const rows = shown.map((item) => {
    const row = [...box.children].find((row) => row.dataset.stage === item.stage) ?? makingRow(node, item);
    const words = texts[language].made;
    const name = item.state === 'waiting' ? item.waits_for : item.state === 'ready' && node.isReleased ? 'out' : item.state;
    const text = (words[name] ?? words.turn)(item) + (item.is_there && ['waiting', 'running', 'failed'].includes(item.state) ? words.before(item) : '');
    const percent = Math.floor(item.progress * 100);
    const bar = $('progress', row);
    bar.hidden = ['live', 'empty', 'failed'].includes(item.state);
    bar.value = percent;
    bar.setAttribute('aria-valuenow', percent);
    bar.setAttribute('aria-valuetext', text);
    if ($('.how', row).textContent !== text) $('.how', row).textContent = text;
    if (row.dataset.state && row.dataset.state !== item.state && ['ready', 'failed', 'empty'].includes(item.state)) $('.news', node).textContent = `${$('.what', row).textContent}: ${text}`;
    row.dataset.state = item.state;
    return row;
  });
  for (const row of [...box.children]) if (!rows.includes(row)) row.remove();
  rows.forEach((row, place) => { if (box.children[place] !== row) box.insertBefore(row, box.children[place] ?? null); });
}

function makingRow(node, item) {
  const row = element('li', undefined, { 'data-stage': item.stage });
  const id = `${node.dataset.id}-${item.stage}`;
  row.append(element('span', texts[language].kind[item.kind] ?? item.stage, { class: 'what', id }),
    element('progress', undefined, { role: 'progressbar', max: 100, 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-labelledby': id }), element('span', '', { class: 'how' }));
  return row;
}

async function showRecordings(card, meeting, me) {
  const list = await call('GET', `/v1/meetings/${meeting.id}/recordings`);
  const box = $('.recordings', card);
  for (const recording of list) {
    const consent = await call('GET', `/v1/recordings/${recording.id}/consent`);
    let node = $(`[data-id="${recording.id}"]`, box);
    if (!node) {
      node = copy('recording');
      node.dataset.id = recording.id;
      box.append(node);
      restrictAll(node, `/v1/recordings/${recording.id}/restriction`, () => showRecordings(card, meeting, me));
      for (const button of node.querySelectorAll('[data-command]')) {
        button.addEventListener('click', () => attempt(async () => {
          if (button.dataset.command === 'erase' && !confirm(t('sure'))) return;
          await call('POST', `/v1/recordings/${recording.id}/${button.dataset.command}`);
          await showRecordings(card, meeting, me);
        }));
      }
    }
    fill(node, recording, consent, me);
  }
  for (const node of box.children) if (!list.some((recording) => recording.id === node.dataset.id)) node.remove();
}

// Until a day, seen from its end; a month is proposed.
function restrictAll(node, path, done) {
  const form = $('.restrict', node);
  const day = (days) => new Date(Date.now() + days * 86400000).toISOString().slice(0, 10);
  $('select', form).replaceChildren(...Object.entries(texts[language].reason).map(([value, text]) => element('option', text, { value })));
  const until = $('input', form);
  [until.min, until.max, until.value] = [day(1), day(3 * 365 - 1), day(31)];
  const change = (method, body) => attempt(async () => { await call(method, path, body); say(t('saved')); await done(); });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    change('PUT', { reason: $('select', form).value, until: new Date(`${until.value}T00:00:00`).getTime() / 1000 });
  });
  $('.lift', node).addEventListener('click', () => change('DELETE'));
}

function fill(node, recording, consent, me) {
  const can = { pause: ['recording'], resume: ['paused'], stop: ['recording', 'paused'], release: recording.released_at ? [] : ['ready', ...(recording.making.some((item) => item.is_there && isShown(item)) ? ['processing', 'failed'] : [])] };
  $('h4', node).textContent = date(recording.started_at);
  $('.state', node).textContent = [texts[language].state[recording.state] ?? recording.state, ...(recording.released_at ? [t('released')] : [])].join(', ');
  $('.restriction', node).textContent = restricted(recording.restriction);
  $('.restrict', node).hidden = Boolean(recording.restriction);
  // Whoever placed it lifts it.
  $('.lift', node).hidden = !recording.restriction || recording.restriction.placed_by !== me.subject;
  $('.expiry', node).textContent = `${t('expires')} ${date(recording.expires_at)}`;
  $('tbody', node).replaceChildren(...consent.people.map((person) => {
    const row = element('tr');
    const streams = recording.streams.filter((stream) => stream.participants.includes(person.participant));
    row.append(element('td', person.name ?? '–'), element('td', person.asks_again ? t('askedAgain') : t(person.decision)), element('td', person.recorded ? t('on') : t('off'), person.recorded ? { class: 'on' } : {}), reception(streams));
    return row;
  }));
  node.isReleased = Boolean(recording.released_at);
  showMaking(node, Date.now() - node.heardAt < 20000 ? node.making : recording.making);
  $('.steps', node).hidden = !recording.progress.length;
  $('.progress', node).replaceChildren(...recording.progress.map((stage) => {
    const line = element('label', `${stage.stage} `);
    line.append(element('progress', undefined, { max: 1, value: stage.progress }), stage.error ? ` ${stage.error}` : '');
    return line;
  }));
  $('.problems', node).replaceChildren(...recording.problems.map((problem) => element('li', problem)));
  for (const [command, states] of Object.entries(can)) $(`[data-command=${command}]`, node).disabled = !states.includes(recording.state);
}

// How each of a person's streams comes in, in words; a mark and a colour say it again.
function reception(streams) {
  const cell = element('td');
  for (const { kind, recording, health } of streams) {
    if (!health || (!recording && health.state !== 'undecryptable')) continue;
    const words = texts[language].health[health.state] ?? health.state;
    const isBad = !['good', 'waiting'].includes(health.state);
    cell.append(element('div', `${isBad ? '⚠ ' : ''}${texts[language].stream[kind]}: ${typeof words === 'function' ? words(health) : words}`,
      { class: `health ${isBad ? 'bad' : health.state}`, 'data-state': health.state, ...(health.hint && { title: health.hint }) }));
  }
  return cell;
}

translate();
$('#language')?.addEventListener('click', () => { language = language === 'de' ? 'en' : 'de'; localStorage.setItem('language', language); location.reload(); });
$('#sign-out')?.addEventListener('click', () => attempt(async () => { await call('DELETE', '/session'); location.assign('/'); }));
const page = document.body.dataset.page;
if (page === 'index') {
  index();
} else {
  attempt(async () => {
    const me = await call('GET', '/v1/me');
    csrf = me.csrf;
    await Promise.all([page === 'participant' ? ownData(me).then(() => participant(me)) : moderator(me), told(), contact()]);
  });
}
