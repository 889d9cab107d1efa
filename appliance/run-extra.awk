# run-extra.awk - what "make run" writes, without what extra.conf sets: awk -f this extra.conf ours
#
# The configuration wants each option once, so ours goes when extra.conf has it; of a section with
# a title (handset "+15550100") all of ours goes. What run.sh itself relies on stays: state_dir and
# control_socket in extra.conf are refused, being there twice. Ours has an option a line, and such sections in
# whole lines or in one. extra.conf may look as it likes: it is read as tokens.

# Take the next token of text: a word, or one of = { } and " (a string).
function token(	rest) {
	while (text != "") {
		if (match(text, /^([ \t\n]+|#[^\n]*|\/\/[^\n]*)/)) {
			text = substr(text, RLENGTH + 1)
		} else if (substr(text, 1, 2) == "/*") {
			rest = index(text, "*/")
			text = rest ? substr(text, rest + 2) : ""
		} else if (match(text, /^("(\\.|[^"\\])*"|'[^']*')/)) {
			string = substr(text, 2, RLENGTH - 2)
			text = substr(text, RLENGTH + 1)
			return "\""
		} else {
			if (!match(text, /^[^ \t\n#{}=,"'+]+/))
				RLENGTH = 1
			string = substr(text, 1, RLENGTH)
			text = substr(text, RLENGTH + 1)
			return string
		}
	}
	return ""
}

# Note which options and titled sections the text sets.
function take_in(	t, section, word, title) {
	while ((t = token()) != "") {
		if (t == "=") {
			extra[section "." word] = 1
			if (token() == "{")
				while ((t = token()) != "" && t != "}")
					continue
		} else if (t == "{") {
			section = word
			if (title != "")
				extra[word " " title] = 1
			title = ""
		} else if (t == "}") {
			section = ""
		} else if (t == "\"") {
			title = string
		} else {
			word = t
		}
	}
}

FILENAME == ARGV[1] { text = text $0 "\n"; next }
!taken {
	take_in()
	delete extra[".state_dir"]
	delete extra[".control_socket"]
	taken = 1
}

/^[a-z0-9_]+ .*[{]/ && !/=.*[{].*[}]$/ {
	n = split($0, part, "\"")
	ours = n > 2 ? part[1] part[2] : $1
	leave_out = ours in extra
	inside = $1
	if (/[}]$/) {
		if (!leave_out)
			print
		leave_out = 0
		inside = ""
		next
	}
}
/^[}]/ { if (!leave_out) print; leave_out = 0; inside = ""; next }
leave_out || (inside "." $1) in extra { next }
{ print }
