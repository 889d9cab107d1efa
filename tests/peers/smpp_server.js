// smpp_server.js - an SMSC made of the npm package "smpp" (node-smpp), driven by lines of JSON.
//
// On standard output: {"port": N}, then one line an event: {"event": "bind"/"submit"/"unbind"/"close"/"resp", ...}.
// On standard input: {"cmd": "set", "key": value}, {"cmd": "deliver", fields...}, {"cmd": "close"}.
// Settings: status (of answers to submit_sm), delay_ms, id ("dec" | "hex"), receipt (null | "text" | "tlv"),
// receipt_id ("dec" | "hex"), receipt_state, throttle (so many submits are answered ESME_RTHROTTLED first).
'use strict';
const path = require('path');
const readline = require('readline');
const smpp = require(path.join(__dirname, '..', 'node_modules', 'smpp'));

const set = {status: 0, delay_ms: 0, id: 'dec', receipt: null, receipt_id: 'dec', receipt_state: 'DELIVRD', throttle: 0};
const states = {ENROUTE: 1, DELIVRD: 2, EXPIRED: 3, DELETED: 4, UNDELIV: 5, ACCEPTD: 6, UNKNOWN: 7, REJECTD: 8};
let nextId = 255000000 + process.pid, current = null;
const say = (o) => process.stdout.write(JSON.stringify(o) + '\n');
const shown = (n, how) => how === 'hex' ? n.toString(16).toUpperCase() : String(n).padStart(10, '0');

function receipt(session, pdu, n) {
	const id = shown(n, set.receipt_id), failed = set.receipt_state !== 'DELIVRD';
	const fields = {source_addr: pdu.destination_addr, destination_addr: pdu.source_addr, esm_class: 4};
	if (set.receipt === 'text') {
		fields.short_message = `id:${id} sub:001 dlvrd:${failed ? '000' : '001'} submit date:2611241200 ` +
			`done date:2611241201 stat:${set.receipt_state} err:000 text:`;
	} else {
		fields.short_message = '';
		fields.receipted_message_id = id;
		fields.message_state = states[set.receipt_state];
	}
	session.deliver_sm(fields, (r) => say({event: 'resp', what: 'receipt', status: r.command_status}));
}

function submit(session, pdu) {
	const n = nextId++;
	const throttled = set.throttle > 0;
	if (throttled) set.throttle--;
	const status = throttled ? smpp.ESME_RTHROTTLED : set.status;
	const m = pdu.short_message;
	say({event: 'submit', source: pdu.source_addr, destination: pdu.destination_addr, esm_class: pdu.esm_class,
		data_coding: pdu.data_coding, registered_delivery: pdu.registered_delivery, status,
		source_ton: pdu.source_addr_ton, source_npi: pdu.source_addr_npi, dest_ton: pdu.dest_addr_ton,
		dest_npi: pdu.dest_addr_npi,
		// node-smpp decodes the text itself: an independent opinion of our coding.
		text: Buffer.isBuffer(m.message) ? null : m.message,
		hex: Buffer.isBuffer(m.message) ? m.message.toString('hex') : null,
		udh: m.udh ? m.udh.map((u) => u.toString('hex')).join('') : null});
	setTimeout(() => {
		const answer = {command_status: status};
		if (!status) answer.message_id = shown(n, set.id);
		session.send(pdu.response(answer));
		if (!status && set.receipt && pdu.registered_delivery) setTimeout(() => receipt(session, pdu, n), 20);
	}, set.delay_ms);
}

const server = smpp.createServer((session) => {
	session.on('error', (e) => say({event: 'error', text: String(e)}));
	session.on('bind_transceiver', (pdu) => {
		current = session;
		session.send(pdu.response({system_id: 'npm'}));
		say({event: 'bind', system_id: pdu.system_id, password: pdu.password, version: pdu.interface_version});
	});
	session.on('submit_sm', (pdu) => submit(session, pdu));
	session.on('enquire_link', (pdu) => session.send(pdu.response()));
	session.on('unbind', (pdu) => { say({event: 'unbind'}); session.send(pdu.response()); session.close(); });
	session.on('close', () => say({event: 'close'}));
});
server.listen(0, '127.0.0.1', () => say({port: server.address().port}));

readline.createInterface({input: process.stdin}).on('line', (line) => {
	const c = JSON.parse(line);
	if (c.cmd === 'set') {
		delete c.cmd;
		Object.assign(set, c);
	} else if (c.cmd === 'deliver') {
		delete c.cmd;
		if (c.hex !== undefined) {
			c.short_message = {message: Buffer.from(c.hex, 'hex')};
			if (c.udh) c.short_message.udh = Buffer.from(c.udh, 'hex');
			delete c.hex;
			delete c.udh;
		}
		current.deliver_sm(c, (r) => say({event: 'resp', what: 'mo', status: r.command_status}));
	} else if (c.cmd === 'close') {
		current.destroy();
	}
}).on('close', () => process.exit(0));
