# The stage release: leave build mode if it is ours, say what that meant. Values: leave.sh's; token: the run that ends,
# or "": it goes on. What the run still has at work here is waited for; what starts after this finds the run ended.
[ -z "$token" ] || printf '%s\n' "$token" >>/run/kbuild-tasks.ended
alone 20
did='' wrong='' by='' other=''
if recall && foreign_record; then
	other="$was_project since $was_since"
	[ "$tree" = 0 ] || leave_by "$kept"
	[ -z "$wrong" ] || die "$wrong"
else
	leave
fi
json=''
text did "$did"
text other "$other"
printf '{%s}\n' "${json%, }"
