//! The life of a device: power-ons, absences, answers.

use jiff::Timestamp;
use rand::RngExt as _;
use serde_json::json;
use uuid::Uuid;

use super::character::{Character, Presence};
use super::telling::Teller;
use super::{Dice, Meaning, Story, TARGET, happens};

/// Adds what a device says to the story. `orders`: its commands by their place in the cast's orders.
pub(super) fn speak(
    number: usize,
    character: &Character,
    orders: Vec<(usize, &'static str, Uuid)>,
    begin: Timestamp,
    dice: &mut Dice,
    story: &mut Story,
) {
    let mut teller = Teller::new(number, character, begin, dice, story);
    for power_on in 0..character.power_ons {
        teller.switch_on(power_on);
        if character.is_old {
            for _ in 0..character.talkativeness {
                teller.older_reading();
            }
            if power_on + 1 == character.power_ons {
                teller.say_once(Teller::older_reading);
            }
            continue;
        }
        if happens(teller.dice, 0.7) {
            teller.status(true, Some("first"));
        }
        teller.hello("1.0.0");
        for _ in 0..character.talkativeness {
            chatter(&mut teller, character);
        }
        match character.presence {
            Presence::Steady | Presence::Flapping => {}
            Presence::InActs => absence(&mut teller),
        }
    }
    if character.is_old {
        return;
    }
    answer(&mut teller, &orders);
    // The last word decides.
    let is_gone = match character.presence {
        Presence::Steady => false,
        Presence::Flapping | Presence::InActs => happens(teller.dice, 0.5),
    };
    match character.presence {
        Presence::Flapping => {
            let is_there = happens(teller.dice, 0.5) && !is_gone;
            teller.status(is_there, None);
        }
        Presence::InActs if is_gone => absence(&mut teller),
        Presence::Steady | Presence::InActs => {}
    }
    if !is_gone {
        teller.say_once(Teller::readings);
    }
}

fn chatter(teller: &mut Teller<'_>, character: &Character) {
    match teller.dice.random_range(0..20) {
        0..13 => teller.readings(),
        13 => {
            teller.straggle(Teller::readings);
            // Nobody knows that a number is missing before a higher one has come.
            teller.hello("1.0.1");
        }
        14 => {
            let version = ["1.0.1", "1.1.0-rc.1", "2.0.0+b7"][teller.dice.random_range(0..3)];
            teller.hello(version);
        }
        15 | 16 => teller.nonsense(),
        17 | 18 if character.presence == Presence::Flapping => {
            let is_there = happens(teller.dice, 0.3);
            teller.status(is_there, None);
        }
        17 => teller.unknown_ack(),
        _ => teller.readings(),
    }
}

/// It goes, and whatever it says next says that it is back.
fn absence(teller: &mut Teller<'_>) {
    teller.next_act();
    match teller.dice.random_range(0..6) {
        0 => {
            // The last will of an old connection, published when the new one is there, ends nothing.
            teller.status(true, Some("second"));
            teller.next_act();
            teller.old_will("first");
            teller.next_act();
            teller.readings();
            teller.next_act();
            teller.status(false, Some("second"));
        }
        1 => {
            // So does IoT Core's word of an old connection's end.
            teller.connected();
            teller.next_act_soon();
            teller.old_disconnected();
            teller.next_act();
            teller.disconnected();
        }
        2 => teller.disconnected(),
        _ => teller.status(false, None),
    }
    teller.next_act();
}

fn answer(teller: &mut Teller<'_>, orders: &[(usize, &'static str, Uuid)]) {
    for (order, cmd, id) in orders {
        if *cmd == "start_ota" {
            upgrade(teller, *order, *id);
        }
        let answers = match teller.dice.random_range(0..10) {
            0..2 => 0,
            2..8 => 1,
            _ => 2,
        };
        for _ in 0..answers {
            let result = ["accepted", "accepted", "accepted", "rejected", "error", "unsupported"]
                [teller.dice.random_range(0..6)];
            let detail = happens(teller.dice, 0.5).then(|| format!("answer to {order}"));
            let ts = teller.now();
            teller.say_v2(
                "command/ack",
                "command_ack",
                json!({"cmd_id": id, "result": result, "detail": detail}),
                Meaning::Ack { ts, order: Some(*order), result, detail: detail.clone() },
            );
        }
    }
}

/// The states of an upgrade arrive in whatever order; the heartbeat that completes it, after them.
fn upgrade(teller: &mut Teller<'_>, order: usize, id: Uuid) {
    let succeeds = happens(teller.dice, 0.7);
    let steps: &[(&str, Option<f64>)] = if succeeds {
        &[
            ("downloading", Some(10.0)),
            ("downloading", Some(60.5)),
            ("verifying", None),
            ("applying", Some(5.0)),
            ("success", None),
        ]
    } else {
        &[("downloading", Some(10.0)), ("failed", None)]
    };
    // Some never say where to: the command does.
    let target = teller.names_its_target().then_some(TARGET);
    for (state, progress) in steps {
        let ts = teller.now();
        teller.say_v2(
            "ota/status",
            "ota_status",
            json!({"cmd_id": id, "ota_state": state, "progress_pct": progress, "fw_version_target": target}),
            Meaning::Upgrade { ts, order, state, progress: *progress },
        );
    }
    if succeeds && happens(teller.dice, 0.7) {
        teller.next_act();
        teller.hello(TARGET);
    }
}
