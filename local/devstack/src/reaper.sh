# shellcheck shell=sh
# Ends the children of the supervisor when the supervisor has ended without stopping them (kill -9
# included): the kernel then closes the standard input of this script.
#
# A line is `+ GROUP` (a process group has started), `- GROUP` (it has ended) or `done` (all have
# ended).
groups=
while read -r event group; do
    case $event in
        +) groups="$group $groups" ;; # stopped in reverse order of their start
        -)
            remaining=
            for each in $groups; do
                [ "$each" = "$group" ] || remaining="$remaining $each"
            done
            groups=$remaining
            ;;
        done) exit 0 ;;
    esac
done

# Whether the leader of a group runs. A zombie does not: without its parent, init reaps it, which
# can take long in a container.
runs() {
    stat=
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null
    case $stat in
        '' | *') Z '*) return 1 ;;
    esac
}

# `kill -s TERM`, because dash accepts no `--` after `kill -TERM`.
for group in $groups; do
    kill -s TERM -- "-$group" 2>/dev/null
    # Up to ten seconds: the AWS endpoint writes its tables to disk on SIGTERM.
    tenths=0
    while [ "$tenths" -lt 100 ] && runs "$group"; do
        sleep 0.1
        tenths=$((tenths + 1))
    done
    kill -s KILL -- "-$group" 2>/dev/null
done
