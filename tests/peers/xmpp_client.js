// xmpp_client.js - the npm package "@xmpp/client" over TCP with STARTTLS, driven by lines of JSON.
//
//	xmpp_client.js PORT DOMAIN USER PASSWORD [PORT OF DIRECT TLS]
//
// On standard output: {"event": "online", "jid"}, {"event": "stanza", "xml"}, {"event": "error", "text"}.
// On standard input: {"cmd": "send", "to", "body", "id", "type"}, {"cmd": "stop"}.
'use strict';
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';		// the test's certificate is self-signed
process.removeAllListeners('warning');
process.on('warning', () => {});
const path = require('path');
const readline = require('readline');
const {client, xml} = require(path.join(__dirname, '..', 'node_modules', '@xmpp', 'client'));

const [port, domain, username, password, direct] = process.argv.slice(2);
const say = (o) => process.stdout.write(JSON.stringify(o) + '\n');
const service = direct ? `xmpps://127.0.0.1:${direct}` : `xmpp://127.0.0.1:${port}`;
const xmpp = client({service, domain, username, password});

xmpp.on('error', (e) => say({event: 'error', text: String(e)}));
xmpp.on('stanza', (s) => say({event: 'stanza', xml: s.toString()}));
xmpp.on('online', async (jid) => {
	await xmpp.send(xml('presence'));
	say({event: 'online', jid: jid.toString()});
});
readline.createInterface({input: process.stdin}).on('line', async (line) => {
	const c = JSON.parse(line);
	if (c.cmd === 'send') {
		await xmpp.send(xml('message', {to: c.to, type: c.type || 'chat', id: c.id}, xml('body', {}, c.body)));
	} else {
		await xmpp.stop();
		process.exit(0);
	}
}).on('close', () => process.exit(0));
xmpp.start().catch((e) => { say({event: 'error', text: String(e)}); process.exit(1); });
