# shellcheck shell=sh
# Ends what the supervisor has started when the supervisor itself is gone, however it went (kill -9
# included): the kernel then closes this script's standard input.
#
# Each line is `+ GROUP` (a process group has started), `- GROUP` (it has ended) or `done` (all has).
groups=
while read -r event group; do
    case $event in
        +) groups="$group $groups" ;; # the latest first: what was started last is stopped first
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

# Whether a group's leader runs. A zombie does not: with its parent gone, it is init that has to take
# notice, which takes its time in a container.
runs() {
    stat=
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null
    case $stat in
        '' | *') Z '*) return 1 ;;
    esac
}

# `kill -s TERM` and not `kill -TERM`: after that, dash takes no `--`.
for group in $groups; do
    kill -s TERM -- "-$group" 2>/dev/null
    # Up to ten seconds: the AWS endpoint writes its tables to disk when it is asked to end.
    tenths=0
    while [ "$tenths" -lt 100 ] && runs "$group"; do
        sleep 0.1
        tenths=$((tenths + 1))
    done
    kill -s KILL -- "-$group" 2>/dev/null
done
